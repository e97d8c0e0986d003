// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long one lab may take on a busy machine.
const patience = 2 * time.Minute

// built is the lab's program, built once for all tests.
type built struct {
	once   sync.Once
	folder string
	err    error
}

// program is a static lab, as users build it. The folder outlives the test that builds it: others run in parallel.
var program built

func TestMain(m *testing.M) {
	status := m.Run()
	if program.folder != "" {
		os.RemoveAll(program.folder)
	}
	os.Exit(status)
}

func (b *built) path(t *testing.T) string {
	t.Helper()
	b.once.Do(func() {
		if b.folder, b.err = os.MkdirTemp("", "lab-test-"); b.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(b.folder, "lab"), ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := build.CombinedOutput(); err != nil {
			b.err = errors.Join(err, errors.New(string(out)))
		}
	})
	if b.err != nil {
		t.Fatalf("build the lab: %v", b.err)
	}
	return filepath.Join(b.folder, "lab")
}

// bench is a lab under test: its temporary files, input and output.
type bench struct {
	t              *testing.T
	lab, temp      string
	env            []string
	stdout, stderr bytes.Buffer
}

// newBench returns a lab with the packaged kernel.
func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchOn(t, kernelUML)
}

// newBenchOn fails the test where the kernel cannot be booted, and says what is missing.
func newBenchOn(t *testing.T, kernel string, env ...string) *bench {
	t.Helper()
	if inside := os.Getenv(envInside); inside != "" {
		t.Fatalf("this is %s, where no kernel can be booted: run the tests of the lab outside of it, as make test-outside does", inside)
	}
	if os.Geteuid() != 0 {
		t.Fatal("must be root to boot a kernel on this machine's files: run make test as root")
	}
	b := &bench{t: t, lab: program.path(t), temp: t.TempDir()}
	b.env = slices.Concat(os.Environ(), []string{envKernel + "=" + kernel, envIptables + "=", "TMPDIR=" + b.temp}, env)
	check := exec.Command(b.lab, "--check")
	check.Env = b.env
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("user-mode Linux cannot be booted; bin/lab --kernel %s --install installs it. %s", kernel, out)
	}
	t.Parallel()
	return b
}

// command returns a lab that runs a command, not yet started.
func (b *bench) command(argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), b.lab, argv...)
	cmd.Env = b.env
	cmd.Stdout, cmd.Stderr = &b.stdout, &b.stderr
	return cmd
}

// run runs a command in the lab and returns its exit status.
func (b *bench) run(argv ...string) int {
	b.t.Helper()
	cmd := b.command(argv...)
	if err := cmd.Start(); err != nil {
		b.t.Fatalf("start the lab: %v", err)
	}
	return b.wait(cmd)
}

// wait returns the exit status of a lab, which must end within patience.
func (b *bench) wait(cmd *exec.Cmd) int {
	b.t.Helper()
	limit := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() < 0) {
		b.t.Fatalf("the lab did not end by itself: %v\nstdout: %s\nstderr: %s", err, &b.stdout, &b.stderr)
	}
	return cmd.ProcessState.ExitCode()
}

// shell runs a script in the lab that must succeed, and returns its output.
func (b *bench) shell(script string) string {
	b.t.Helper()
	if status := b.run("sh", "-euc", script); status != 0 {
		b.t.Fatalf("exit status %d\nstdout: %s\nstderr: %s", status, &b.stdout, &b.stderr)
	}
	return b.stdout.String()
}

// leftovers returns the processes on this machine that name the bench's temporary files, as kernels do.
func (b *bench) leftovers() []string {
	b.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		b.t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		// A process may end while we look.
		if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte(b.temp)) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// mustLeaveNothing waits until the bench's processes are gone.
func (b *bench) mustLeaveNothing() {
	b.t.Helper()
	for limit := time.Now().Add(5 * time.Second); ; {
		found := b.leftovers()
		if len(found) == 0 {
			return
		}
		if time.Now().After(limit) {
			b.t.Fatalf("left behind: %q", found)
		}
		// There is no notification when another's process ends.
		time.Sleep(20 * time.Millisecond)
	}
}
