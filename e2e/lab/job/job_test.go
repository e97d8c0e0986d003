// SPDX-License-Identifier: Apache-2.0

package job_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

func TestCommandRoundTrip(t *testing.T) {
	dir := job.Dir(t.TempDir())
	want := job.Command{
		Argv:    []string{"sh", "-c", "echo 'a b'\nexit 1"},
		Env:     []string{"EMPTY=", "LINES=one\ntwo", "WORD=ÿ"},
		Dir:     "/some where",
		Modules: "/modules/6.1",
		NFT:     true,
		Seed:    []byte{0, 1, 0xff},
		Keep:    []string{"/run/a"},
	}
	if err := dir.WriteCommand(want); err != nil {
		t.Fatal(err)
	}
	got, err := dir.Command()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCommandRejectsWhatCannotBeRun(t *testing.T) {
	for name, content := range map[string]string{"not JSON": "{", "no command": "{}"} {
		t.Run(name, func(t *testing.T) {
			dir := job.Dir(t.TempDir())
			if err := os.WriteFile(dir.Path("command.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if c, err := dir.Command(); err == nil {
				t.Errorf("got %+v, want an error", c)
			}
		})
	}
}

func TestResult(t *testing.T) {
	dir := job.Dir(t.TempDir())
	if _, ok, err := dir.Result(); ok || err != nil {
		t.Fatalf("before the end: ok %v, error %v", ok, err)
	}
	want := job.Result{Status: 3, Failure: "reason"}
	if err := dir.WriteResult(want); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := dir.Result(); got != want || !ok || err != nil {
		t.Errorf("got %+v, ok %v, error %v; want %+v", got, ok, err, want)
	}
}

func TestBooted(t *testing.T) {
	dir := job.Dir(t.TempDir())
	if dir.Booted() {
		t.Error("booted before it was said")
	}
	if err := dir.MarkBooted(); err != nil {
		t.Fatal(err)
	}
	if !dir.Booted() {
		t.Error("not booted after it was said")
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	dir := job.Dir(t.TempDir() + "/missing")
	if err := dir.WriteResult(job.Result{}); err == nil || !strings.Contains(err.Error(), "result.json") {
		t.Errorf("error %v does not name the file", err)
	}
}
