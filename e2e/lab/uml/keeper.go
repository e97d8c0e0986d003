// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
)

// KeeperName is the name under which the lab starts itself as the keeper.
const KeeperName = "lab-keeper"

// Keep runs the kernel, given as its command line, and is the first process of a process namespace. A user-mode kernel
// has one host process for each of its address spaces, and they outlive it when it is killed; the namespace ends them
// all. The kernel cannot be the first process itself: it aborts by a signal, which first processes ignore. Where
// namespaces are forbidden, the keeper ends the process group on SIGTERM.
func Keep(argv []string) (status int) {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for fd := range uintptr(lines) {
		files = append(files, os.NewFile(firstLine+fd, "line"))
	}
	pid, err := child.Start(child.Command{Argv: argv, Env: os.Environ(), Dir: "/", Files: files, DieWithUs: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return child.StartStatus(err)
	}
	held, err := pin(pid)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err) // it is only slower
	}
	defer held.Close()
	go func() {
		<-end
		killKernel(pid)
	}()
	status, err = child.Reap(pid, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	killKernel(pid)
	child.KillRest()
	return status
}

// killKernel ends a kernel and its processes. The kernel makes a session, and so a process group, but not at once.
func killKernel(pid int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}
