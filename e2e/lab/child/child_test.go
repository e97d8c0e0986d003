// SPDX-License-Identifier: Apache-2.0

package child_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
)

func TestStatus(t *testing.T) {
	// A wait status has the signal in its low seven bits, or else the exit status in the byte above.
	for _, c := range []struct {
		name string
		ws   syscall.WaitStatus
		want int
	}{
		{"success", 0, 0},
		{"failure", 3 << 8, 3},
		{"highest", 255 << 8, 255},
		{"killed", syscall.WaitStatus(syscall.SIGKILL), 137},
		{"terminated", syscall.WaitStatus(syscall.SIGTERM), 143},
		{"dumped core", syscall.WaitStatus(syscall.SIGSEGV) | 0x80, 139},
	} {
		if got := child.Status(c.ws); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestStartStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{exec.ErrNotFound, 127},
		{fmt.Errorf("start x: %w", syscall.ENOENT), 127},
		{fmt.Errorf("find x: %w", fs.ErrPermission), 126},
		{syscall.ENOEXEC, 126},
	} {
		if got := child.StartStatus(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestPathOf(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, ""},
		{[]string{"A=1"}, ""},
		{[]string{"PATH=/a", "B=PATH=/b"}, "/a"},
		{[]string{"PATH=/a", "PATH=/b"}, "/b"},
	} {
		if got := child.PathOf(c.env); got != c.want {
			t.Errorf("%q: got %q, want %q", c.env, got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for name, mode := range map[string]os.FileMode{"one/tool": 0o644, "two/tool": 0o755, "two/other": 0o644} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	path := root + "/one:" + root + "/two"
	for _, c := range []struct {
		name, path, want string
		err              error
	}{
		{"tool", path, root + "/two/tool", nil},
		{"tool", "two", root + "/two/tool", nil},
		{"tool", "", "", exec.ErrNotFound},
		{"other", path, "", exec.ErrNotFound},
		{"nothing", path, "", exec.ErrNotFound},
		{"./two/tool", "", "./two/tool", nil},
		{root + "/two/tool", "", root + "/two/tool", nil},
		{"./two", "", "./two", fs.ErrPermission},
		{"./two/other", "", "./two/other", fs.ErrPermission},
		{"./three", "", "./three", fs.ErrNotExist},
	} {
		got, err := child.Find(c.name, c.path, root)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s in %q: got %q, error %v; want %q, error %v", c.name, c.path, got, err, c.want, c.err)
		}
	}
}

// Only a first process may kill all others: this test would not survive if it did.
func TestKillRestSparesOrdinaryProcesses(t *testing.T) {
	if os.Getpid() == 1 {
		t.Fatal("this is a first process: start the test from a shell, or from go test")
	}
	child.KillRest()
}
