// SPDX-License-Identifier: Apache-2.0

// Package child is what the first process of a kernel or of namespaces does: it brings up lo, runs one command, reaps
// every orphan, passes signals on, and leaves nothing behind at the end.
package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Exit statuses for a command that could not be started, as shells give them.
const (
	StatusNotExecutable = 126
	StatusNotFound      = 127
)

// Command is a command to run and what it gets.
type Command struct {
	Argv  []string
	Env   []string
	Dir   string
	Files []*os.File
	// DieWithUs makes the kernel kill the command when the thread that started it ends.
	DieWithUs bool
}

// Start starts the command. It looks for it in the command's PATH, as a shell would.
func Start(c Command) (pid int, err error) {
	path, err := Find(c.Argv[0], PathOf(c.Env), c.Dir)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", c.Argv[0], err)
	}
	files := make([]uintptr, len(c.Files))
	for i, f := range c.Files {
		files[i] = f.Fd()
	}
	attr := &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files}
	if c.DieWithUs {
		attr.Sys = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	pid, err = syscall.ForkExec(path, c.Argv, attr)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	return pid, nil
}

// StartStatus returns the exit status for an error of Start.
func StartStatus(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return StatusNotFound
	}
	return StatusNotExecutable
}

// Reap waits for the command and reaps every orphan that ends before it. It passes signals on to the command and
// returns its exit status. The os package must not wait for a process at the same time: Reap takes any child that ends.
func Reap(pid int, signals <-chan os.Signal) (status int, err error) {
	done := make(chan struct{})
	defer close(done)
	go forward(pid, signals, done)
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the command: %w", err)
		case got == pid:
			return Status(ws), nil
		}
	}
}

func forward(pid int, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			// A command that has just ended is no error.
			_ = syscall.Kill(pid, s.(syscall.Signal))
		case <-done:
			return
		}
	}
}

// KillRest ends every other process of this kernel or namespace and reaps them. It does nothing unless called by the
// first process.
func KillRest() {
	if os.Getpid() != 1 {
		return
	}
	_ = syscall.Kill(-1, syscall.SIGKILL)
	for {
		_, err := syscall.Wait4(-1, nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// Listen collects the signals that ask for an end.
func Listen() <-chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	return c
}

// Status returns the exit status that a shell would show: 128+n for a command killed by signal n.
func Status(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// PathOf returns the PATH of an environment: the last one counts.
func PathOf(env []string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return v
		}
	}
	return ""
}

// Find returns the file that name means in a search path, seen from dir.
func Find(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, runnable(from(dir, name))
	}
	for _, p := range filepath.SplitList(path) {
		file := filepath.Join(from(dir, p), name)
		if runnable(file) == nil {
			return file, nil
		}
	}
	return "", exec.ErrNotFound
}

func from(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func runnable(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fs.ErrPermission
	}
	return nil
}
