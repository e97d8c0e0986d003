// SPDX-License-Identifier: Apache-2.0

package execs_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/execs"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// read waits until all traced processes have ended.
func read(t *testing.T, file string) []execs.Exec {
	t.Helper()
	var all []execs.Exec
	rig.Until(t, rig.Patience, func() error {
		found, ended, err := execs.Read(file)
		if all = found; err == nil && !ended {
			err = errors.New("a traced process has not ended")
		}
		return err
	})
	return all
}

func TestEveryAttemptOfAProgramAndItsChildrenIsSeen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "execs")
	argv := execs.Trace(file, "/bin/sh", "-c", "/bin/true; (exec /bin/sh -c '/bin/false'); /bin/true & wait; /nowhere; exit 3")
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 {
		t.Fatalf("the program's status is lost: %v\n%s", err, out)
	}
	var got []string
	for _, e := range read(t, file) {
		got = append(got, strings.TrimSpace(e.Program+" "+e.Failed))
	}
	if want := []string{"/bin/sh", "/bin/true", "/bin/sh", "/bin/false", "/bin/true", "/nowhere ENOENT"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestATracedProgramGetsSignals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "execs")
	argv := execs.Trace(file, "/bin/sleep", "1000")
	c := exec.Command(argv[0], argv[1:]...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, rig.Patience, func() error {
		all, _, err := execs.Read(file)
		if err == nil && len(all) == 0 {
			err = errors.New("not executed yet")
		}
		return err
	})
	sent := time.Now()
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](c.Wait())
	if !ok || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGTERM {
		t.Errorf("ended by %v after %v", exit, time.Since(sent))
	}
	if all := read(t, file); len(all) != 1 || all[0].Program != "/bin/sleep" {
		t.Errorf("got %v", all)
	}
}
