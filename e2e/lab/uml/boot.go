// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

// machine is a kernel that has been started.
type machine struct {
	dir job.Dir
	// exited gets the end of the kernel's process, once.
	exited  chan error
	process *os.Process
	// death ends the process and all that belongs to it.
	death   syscall.Signal
	signals *os.File
	streams sync.WaitGroup
}

// start boots the kernel in a job's directory.
func start(k Kernel, dir job.Dir, memory, memoryFolder string) (*machine, error) {
	log, err := os.Create(dir.Path(job.LogFile))
	if err != nil {
		return nil, fmt.Errorf("make the kernel's log: %w", err)
	}
	defer log.Close()
	out, err := openPipes()
	if err != nil {
		return nil, err
	}
	defer out.closeGuest()
	cmd, death, err := startApart(func(attr *syscall.SysProcAttr) *exec.Cmd {
		return &exec.Cmd{
			Path:        "/proc/self/exe",
			Args:        append([]string{KeeperName, k.Program}, arguments(k, dir, memory)...),
			Env:         append(os.Environ(), "TMPDIR="+memoryFolder),
			Stdout:      log,
			Stderr:      log,
			ExtraFiles:  out.guest(),
			SysProcAttr: attr,
		}
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", k.Program, err)
	}
	m := &machine{dir: dir, exited: make(chan error, 1), process: cmd.Process, death: death, signals: out.signalW}
	m.streams.Go(func() { _, _ = io.Copy(os.Stdout, out.outR) })
	m.streams.Go(func() { _, _ = io.Copy(os.Stderr, out.errR) })
	go func() { m.exited <- cmd.Wait() }()
	return m, nil
}

// startApart starts the keeper in a session of its own, so that the lab handles a terminal's ^C, and in a process
// namespace if that is allowed: containers often forbid it, and the kernel runs without. It returns the signal that
// ends the keeper and all that belongs to it. The keeper gets the same signal when this thread ends.
func startApart(keeper func(*syscall.SysProcAttr) *exec.Cmd) (*exec.Cmd, syscall.Signal, error) {
	cmd := keeper(&syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID})
	err := cmd.Start()
	if !errors.Is(err, syscall.EPERM) {
		return cmd, syscall.SIGKILL, err
	}
	cmd = keeper(&syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM})
	return cmd, syscall.SIGTERM, cmd.Start()
}

// kill ends the kernel and all that belongs to it.
func (m *machine) kill() { _ = m.process.Signal(m.death) }

// signal passes a signal on to the command in the guest.
func (m *machine) signal(s syscall.Signal) { _, _ = m.signals.Write([]byte{byte(s)}) }

// pipes are the two ends of the guest's serial lines.
type pipes struct {
	outR, outW, errR, errW, signalR, signalW *os.File
}

func openPipes() (p pipes, err error) {
	var errs [3]error
	p.outR, p.outW, errs[0] = os.Pipe()
	p.errR, p.errW, errs[1] = os.Pipe()
	p.signalR, p.signalW, errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		return pipes{}, fmt.Errorf("make pipes for the guest's lines: %w", err)
	}
	return p, nil
}

// guest returns the guest's ends, in the order of their numbers on the kernel's command line.
func (p pipes) guest() []*os.File { return []*os.File{p.outW, p.errW, p.signalR} }

func (p pipes) closeGuest() {
	for _, f := range p.guest() {
		f.Close()
	}
}
