// SPDX-License-Identifier: Apache-2.0

// Command lab runs a command on a kernel that has IPVS: on this machine's, in namespaces of its own, if that works,
// else on a user-mode Linux kernel that it boots for the command. Use it for tests (go test -exec) and to try things by
// hand. It is no sandbox: the command is root and sees the machine's files.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/build"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/guest"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/need"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/space"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/uml"
)

const usage = `usage: lab [--kernel KERNEL] COMMAND [ARGUMENT...]   run a command on a kernel with IPVS
       lab [--kernel KERNEL] --check                  say which kernel that is, and why
       lab [--kernel KERNEL] --install                install what is missing, with apt-get, and build that kernel
       go test -exec /path/to/lab ./...

The command gets this environment, working directory and file system, and is root. In user-mode Linux its input is empty.
Environment:
  LAB_KERNEL=KERNEL         the same as --kernel
  LAB_MEM=2G                memory of user-mode Linux
  LAB_IPTABLES=nft|legacy   iptables in user-mode Linux: nft, or legacy for uml and 6.1, which have no nf_tables for ip and ip6
  LAB_UML=PROGRAM LAB_UML_MODULES=FOLDER LAB_UML_ARGS="ARGUMENT..."   another user-mode Linux kernel for uml
  LAB_MIRROR=URL            the mirror of Debian with the sources of kernels, if not the one of this machine
Kernels: host is this machine's, uml is user-mode Linux as a package of Debian, 6.1 is the same if it is a 6.1, 6.12 and 7 are the
newest of those versions that Debian has sources of, built once and kept in the user's cache.
In the lab, LAB_INSIDE names the kernel the command runs on.
`

const (
	kernelFlag  = "--kernel"
	checkFlag   = "--check"
	installFlag = "--install"
)

// statusUsage is the exit status for a wrong command line.
const statusUsage = 2

// statusFailed is the exit status if the lab itself failed.
const statusFailed = space.StatusFailed

func main() {
	// Children die with the thread that started them, so this thread must live as long as the lab.
	runtime.LockOSThread()
	os.Exit(role())
}

// role runs what this process is for: the lab also starts itself as the keeper, as the first process of namespaces, and
// in the guest.
func role() int {
	dir := os.Getenv(job.EnvName)
	switch {
	case os.Args[0] == uml.KeeperName:
		return uml.Keep(os.Args[1:])
	case os.Args[0] == space.Name:
		return space.Main(os.Args[1:])
	case os.Getpid() == 1 && dir != "" && filepath.Base(os.Args[0]) == job.InitFile:
		guest.Main(job.Dir(dir))
	}
	status, err := lab(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return statusFailed
	}
	return status
}

func lab(args []string) (int, error) {
	kernel, args := kernelOf(args)
	if len(args) == 0 || strings.HasPrefix(args[0], "-") && args[0] != checkFlag && args[0] != installFlag {
		fmt.Fprint(os.Stderr, usage)
		return statusUsage, nil
	}
	if os.Geteuid() != 0 {
		return 0, errors.New("must be run as root: it makes network namespaces or boots a kernel whose root is this machine's files")
	}
	path := need.Path(os.Getenv("PATH"))
	if err := os.Setenv("PATH", path); err != nil {
		return 0, fmt.Errorf("extend PATH: %w", err)
	}
	if kernel != "" {
		if err := os.Setenv(envKernel, kernel); err != nil {
			return 0, fmt.Errorf("choose the kernel: %w", err)
		}
	}
	switch args[0] {
	case checkFlag:
		return 0, check()
	case installFlag:
		return 0, install(os.Getenv(envKernel), path)
	}
	return run(args)
}

// kernelOf splits the choice of a kernel from the rest of the command line.
func kernelOf(args []string) (kernel string, rest []string) {
	if len(args) == 0 {
		return "", nil
	}
	if value, ok := strings.CutPrefix(args[0], kernelFlag+"="); ok {
		return value, args[1:]
	}
	if args[0] == kernelFlag && len(args) > 1 {
		return args[1], args[2:]
	}
	return "", args
}

// install installs what is missing of the tools, and of a kernel that must be built.
func install(kernel, path string) error {
	if err := need.Install(need.Missing(need.ForDevelopers(), path), os.Stdout); err != nil {
		return err
	}
	series, ok := seriesOf(kernel)
	if !ok {
		return nil
	}
	store, err := build.OpenStore()
	if err != nil {
		return err
	}
	if _, err := store.Find(series); err == nil {
		return nil
	}
	if err := need.Install(need.Missing(need.ForBuilding(), path), os.Stdout); err != nil {
		return err
	}
	return store.Build(series, os.Getenv, os.Stdout)
}
