// SPDX-License-Identifier: Apache-2.0

// Package space runs a command on this machine's kernel, in network, mount and process namespaces of its own, and
// checks whether that kernel can serve as a lab. It leaves the machine as it found it.
package space

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
)

// Name is the name under which the lab starts itself as the first process of the namespaces.
const Name = "lab-space"

// What the first process of the namespaces has to do.
const (
	askProbe = "probe"
	askRun   = "run"
)

// StatusFailed is the exit status if the lab itself failed.
const StatusFailed = 125

// Probe checks whether this kernel has all that is needed; the error says what is missing.
func Probe() error {
	cmd := apart(askProbe)
	var reason bytes.Buffer
	cmd.Stderr = &reason
	err := cmd.Run()
	if text := strings.TrimSpace(reason.String()); err != nil && text != "" {
		return errors.New(text)
	}
	if err != nil {
		return refused(fmt.Errorf("make namespaces: %w", err))
	}
	return nil
}

// Run runs the command in namespaces of its own and returns its exit status.
func Run(argv, env []string, signals <-chan os.Signal) (int, error) {
	cmd := apart(askRun, argv...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	pass(cmd.Process, signals, ended)
	return child.Status(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// pass hands the first signal on to the command, and kills it on the second.
func pass(p *os.Process, signals <-chan os.Signal, ended <-chan error) {
	asked := false
	for {
		select {
		case <-ended:
			return
		case s := <-signals:
			switch {
			case asked:
				_ = p.Kill()
			case !child.FromTerminal(s):
				_ = p.Signal(s)
			}
			asked = true
		}
	}
}

// apart starts the lab again as the first process of new namespaces. They end with it, and it ends with this thread.
func apart(ask string, argv ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe",
		Args: append([]string{Name, ask}, argv...),
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
			Pdeathsig:  syscall.SIGKILL,
		},
	}
}

// Main is the first process of the namespaces.
func Main(args []string) (status int) {
	ask, argv := args[0], args[1:]
	if ask == askProbe {
		return probe()
	}
	status, err := run(argv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	return status
}

// probe prints why this kernel cannot be used, as the end of a sentence that begins with the kernel.
func probe() (status int) {
	err := furnish()
	if err != nil {
		err = refused(err)
	} else {
		err = try()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return StatusFailed
	}
	return 0
}

// refused is the error of a kernel that does not allow what the lab needs.
func refused(err error) error { return fmt.Errorf("cannot be used as it is: %w", err) }

func run(argv []string) (status int, err error) {
	if err := furnish(); err != nil {
		return StatusFailed, err
	}
	signals := child.Listen()
	pid, err := child.Start(child.Command{
		Argv: argv, Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return child.StartStatus(err), err
	}
	defer child.KillRest()
	status, err = child.Reap(pid, signals)
	if err != nil {
		return StatusFailed, err
	}
	return status, nil
}
