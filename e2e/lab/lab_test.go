// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		argv []string
		want int
	}{
		{"success", []string{"true"}, 0},
		{"failure", []string{"sh", "-c", "exit 3"}, 3},
		{"killed", []string{"sh", "-c", "kill -9 $$"}, 137},
		{"not found", []string{"no-such-command"}, 127},
		{"not executable", []string{"/etc/passwd"}, 126},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if got := b.run(c.argv...); got != c.want {
				t.Errorf("got %d, want %d\n%s", got, c.want, &b.stderr)
			}
			if b.stdout.Len() > 0 {
				t.Errorf("stdout has %q", &b.stdout)
			}
			left, err := filepath.Glob(b.temp + "/*")
			if err != nil || len(left) > 0 {
				t.Errorf("left in the temporary files: %q, error %v", left, err)
			}
		})
	}
}

// All bytes pass unchanged, on the stream they were written to.
func TestStreams(t *testing.T) {
	b := newBench(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	file := filepath.Join(b.temp, "bytes")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	out := b.shell("cat " + file + "; echo; echo line >&2; printf 'no newline'; printf end >&2; test ! -t 1; test ! -s /dev/stdin")
	if want := string(all) + "\nno newline"; out != want {
		t.Errorf("stdout is %q, want %q", out, want)
	}
	if got, want := b.stderr.String(), "line\nend"; got != want {
		t.Errorf("stderr is %q, want %q", got, want)
	}
}

func TestLargeOutput(t *testing.T) {
	b := newBench(t)
	content := make([]byte, 20<<20)
	_, _ = rand.Read(content)
	file := filepath.Join(b.temp, "large")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b.shell("cat " + file + " & cat " + file + " >&2; wait")
	if !bytes.Equal(b.stdout.Bytes(), content) {
		t.Errorf("stdout has %d bytes, not the %d that were written", b.stdout.Len(), len(content))
	}
	if !bytes.Equal(b.stderr.Bytes(), content) {
		t.Errorf("stderr has %d bytes, not the %d that were written", b.stderr.Len(), len(content))
	}
}

// started starts a lab and returns once its command says that it is ready.
func (b *bench) started(script string) (*exec.Cmd, io.Reader) {
	b.t.Helper()
	cmd := b.command("sh", "-c", script)
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, ready); err != nil {
		b.t.Fatalf("the command is not ready: %v\n%s", err, &b.stderr)
	}
	return cmd, out
}

// Output arrives while the command runs, and a signal ends a command without a handler.
func TestSignalEndsCommand(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			b := newBench(t)
			cmd, _ := b.started("echo ready; exec sleep 1000")
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if got, want := b.wait(cmd), 128+int(s); got != want {
				t.Errorf("got %d, want %d\n%s", got, want, &b.stderr)
			}
			b.mustLeaveNothing()
		})
	}
}

func TestSignalReachesCommand(t *testing.T) {
	b := newBench(t)
	cmd, out := b.started("trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "caught\n" {
		t.Errorf("the command said %q, error %v", rest, err)
	}
	if got := b.wait(cmd); got != 5 {
		t.Errorf("got %d, want the command's 5\n%s", got, &b.stderr)
	}
}

// A second signal ends a command that ignores the first.
func TestSecondSignalKills(t *testing.T) {
	b := newBench(t)
	cmd, out := b.started("trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("no\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := b.wait(cmd); got != 143 {
		t.Errorf("got %d, want 143\n%s", got, &b.stderr)
	}
	b.mustLeaveNothing()
}

func TestKilledLabLeavesNothing(t *testing.T) {
	b := newBench(t)
	cmd, _ := b.started("sleep 1000 & echo ready; exec sleep 1000")
	if len(b.leftovers()) == 0 {
		t.Fatal("a running kernel is not seen")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	b.mustLeaveNothing()
}

// When the command ends, everything ends: background processes with open streams or a session of their own, too.
func TestBackgroundProcesses(t *testing.T) {
	b := newBench(t)
	begin := time.Now()
	out := b.shell("sleep 1000 & setsid sleep 1000 & (trap '' TERM HUP; sleep 1000) & echo done")
	if out != "done\n" {
		t.Errorf("stdout is %q", out)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	b.mustLeaveNothing()
}

func TestPlaceAndEnvironment(t *testing.T) {
	b := newBench(t)
	b.env = append(b.env, "WORDS=two  words\nand a line", "EMPTY=")
	folder := filepath.Join(b.temp, "some where")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := b.command("sh", "-euc", `pwd; echo "$WORDS"; echo "${EMPTY-unset}"; echo "${LAB_KERNEL-unset}"; echo "$LAB_INSIDE"; id -u`)
	cmd.Dir = folder
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := b.wait(cmd); got != 0 {
		t.Fatalf("exit status %d\n%s", got, &b.stderr)
	}
	got := strings.Split(b.stdout.String(), "\n")
	want := []string{folder, "two  words", "and a line", "", "unset", "user-mode Linux", "0", ""}
	if len(got) == len(want) {
		got[5] = got[5][:min(len(got[5]), len(want[5]))]
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the command writes is on the host once the lab has ended, even below a file system of the guest's own.
func TestFilesArrive(t *testing.T) {
	b := newBench(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	source := filepath.Join(b.temp, "source")
	if err := os.WriteFile(source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	folders := []string{b.temp}
	for _, parent := range []string{"/run", "/dev/shm"} {
		f, err := os.MkdirTemp(parent, "lab-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(f) })
		folders = append(folders, f)
	}
	for _, f := range folders {
		cmd := b.command("cp", source, "copy")
		cmd.Dir = f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if status := b.wait(cmd); status != 0 {
			t.Errorf("in %s: exit status %d\n%s", f, status, &b.stderr)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(f, "copy")); err != nil || !bytes.Equal(got, content) {
			t.Errorf("in %s: got %d bytes, error %v; want %d", f, len(got), err, len(content))
		}
	}
}

func TestClock(t *testing.T) {
	b := newBench(t)
	out := b.shell("date +%s")
	inside, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Since(time.Unix(inside, 0)); off < -2*time.Second || off > patience {
		t.Errorf("the guest's clock is %v behind", off)
	}
}

func TestPanicIsExplained(t *testing.T) {
	b := newBench(t)
	if got := b.run("sh", "-c", "echo c >/proc/sysrq-trigger"); got != statusFailed {
		t.Errorf("got %d, want %d", got, statusFailed)
	}
	// The length of the trace differs. What panicked is among its last lines.
	for _, want := range []string{"the guest's kernel died before the command ended: Kernel panic", "kernel.log", "write_sysrq_trigger"} {
		if !strings.Contains(b.stderr.String(), want) {
			t.Errorf("stderr does not have %q:\n%s", want, &b.stderr)
		}
	}
	if b.stdout.Len() > 0 {
		t.Errorf("stdout has %q", &b.stdout)
	}
	b.mustLeaveNothing()
}

func TestOutOfMemoryIsExplained(t *testing.T) {
	b := newBench(t)
	b.env = append(b.env, "LAB_MEM=96M")
	if got := b.run("tail", "/dev/zero"); got != 137 {
		t.Errorf("got %d, want 137", got)
	}
	if !strings.Contains(b.stderr.String(), "ran out of memory; give it more with LAB_MEM") {
		t.Errorf("stderr does not explain it:\n%s", &b.stderr)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, env, want string }{
		{"memory", "LAB_MEM=lots", "LAB_MEM=lots"},
		{"kernel", "LAB_KERNEL=bsd", "want one of host, uml, 6.1, 6.12, 7"},
		{"program", "LAB_UML=/nowhere/linux", "/nowhere/linux is missing"},
		{"modules", "LAB_UML_MODULES=/nowhere", "are missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.env = append(b.env, c.env)
			if got := b.run("true"); got != statusFailed {
				t.Errorf("got %d, want %d", got, statusFailed)
			}
			if !strings.Contains(b.stderr.String(), c.want) {
				t.Errorf("stderr does not have %q:\n%s", c.want, &b.stderr)
			}
		})
	}
}

func TestRefusesOtherUsers(t *testing.T) {
	b := newBench(t)
	// The test's own folders are for root alone.
	cmd := exec.Command("/proc/self/fd/3", "true")
	lab, err := os.Open(b.lab)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Close()
	cmd.ExtraFiles = []*os.File{lab}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != statusFailed || !strings.Contains(string(out), "must be run as root") {
		t.Errorf("got %d: %s", got, out)
	}
}
