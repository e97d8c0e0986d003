// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/need"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/space"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/uml"
)

// envKernel names the variable with which the user insists on a kernel.
const envKernel = "LAB_KERNEL"

const (
	kernelHost = "host"
	kernelUML  = "uml"
)

// choice is the kernel to run on.
type choice struct {
	// guest is the kernel to boot; nil to use this machine's.
	guest *uml.Kernel
	// name and reason are shown to users.
	name, reason string
}

func (c choice) String() string {
	if c.guest == nil {
		return c.reason + "; using it"
	}
	return c.reason + "; using " + c.name
}

// choose finds a kernel that can be used now.
func choose() (choice, error) {
	wanted := os.Getenv(envKernel)
	here := "this kernel (" + release() + ")"
	if missing := need.Missing(need.ForCommands(), os.Getenv("PATH")); len(missing) > 0 {
		return choice{}, missingError(missing)
	}
	var refusal error
	switch wanted {
	case kernelUML:
		refusal = errors.New("is not wanted: " + envKernel + "=" + kernelUML)
	case kernelHost, "":
		refusal = space.Probe()
	default:
		return choice{}, fmt.Errorf("parse %s=%s: want %s or %s", envKernel, wanted, kernelHost, kernelUML)
	}
	if refusal == nil {
		return choice{name: here, reason: here + " has IPVS and ipset"}, nil
	}
	reason := here + " " + refusal.Error()
	if wanted == kernelHost {
		return choice{}, errors.New(reason)
	}
	return chooseGuest(reason)
}

func chooseGuest(reason string) (choice, error) {
	k, err := uml.Find(os.Getenv)
	if err != nil {
		return choice{}, fmt.Errorf("%s; user-mode Linux cannot stand in: %w", reason, err)
	}
	if missing := need.Missing(need.ForGuest()[1:], os.Getenv("PATH")); len(missing) > 0 {
		return choice{}, missingError(missing)
	}
	return choice{guest: &k, name: "user-mode Linux " + k.Version, reason: reason}, nil
}

func missingError(packages []string) error {
	names := strings.Join(packages, " ")
	return fmt.Errorf("missing: %s. Install with: apt-get install %s (or lab --install)", names, names)
}

// check prints which kernel would be used.
func check() (err error) {
	ledger, err := space.OpenLedger()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	c, err := choose()
	if err != nil {
		return err
	}
	fmt.Println(c)
	return nil
}

// run runs the command on the chosen kernel.
func run(argv []string) (int, error) {
	ledger, err := space.OpenLedger()
	if err != nil {
		return 0, err
	}
	c, err := choose()
	if err != nil {
		return 0, errors.Join(err, ledger.Close())
	}
	signals := child.Listen()
	env := environ(os.Environ(), c.name)
	if c.guest == nil {
		status, err := space.Run(argv, env, signals)
		return status, errors.Join(err, ledger.Close())
	}
	if err := ledger.Close(); err != nil {
		return 0, err
	}
	return boot(*c.guest, argv, env, signals)
}

func boot(k uml.Kernel, argv, env []string, signals <-chan os.Signal) (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("find the working directory: %w", err)
	}
	memory := os.Getenv(uml.EnvMemory)
	if memory == "" {
		memory = uml.DefaultMemory
	}
	c := job.Command{Argv: argv, Env: env, Dir: dir, NFT: os.Getenv(envIptables) == "nft"}
	return uml.Run(k, c, memory, signals)
}

// envIptables chooses the kind of iptables in the guest. envInside names the kernel to commands in the lab.
const (
	envIptables = "LAB_IPTABLES"
	envInside   = "LAB_INSIDE"
)

// environ returns the command's environment: without the choices for this lab, which are not those of a lab inside it.
func environ(env []string, kernel string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case envKernel, envIptables, envInside, job.EnvName,
			uml.EnvKernel, uml.EnvModules, uml.EnvArguments, uml.EnvMemory:
		default:
			kept = append(kept, e)
		}
	}
	return append(kept, envInside+"="+kernel)
}

// release returns the version of this machine's kernel.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}
