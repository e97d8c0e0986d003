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

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/guest"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/need"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/space"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/uml"
)

const usage = `usage: lab COMMAND [ARGUMENT...]   run a command on a kernel with IPVS
       lab --check                  say which kernel that is, and why
       lab --install                install what is missing, with apt-get
       go test -exec /path/to/lab ./...

The command gets this environment, working directory and file system, and is root. In user-mode Linux its input is empty.
Environment:
  LAB_KERNEL=host|uml   insist on this machine's kernel, or on user-mode Linux
  LAB_MEM=2G            memory of user-mode Linux
  LAB_IPTABLES=nft      use iptables-nft in user-mode Linux (its 6.1 kernel cannot: see LAB_UML)
  LAB_UML=PROGRAM LAB_UML_MODULES=FOLDER LAB_UML_ARGS="ARGUMENT..."   another user-mode Linux kernel
In the lab, LAB_INSIDE names the kernel the command runs on.
`

const (
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
	switch args[0] {
	case checkFlag:
		return 0, check()
	case installFlag:
		return 0, need.Install(need.Missing(need.ForDevelopers(), path), os.Stdout)
	}
	return run(args)
}
