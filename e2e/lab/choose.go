// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/build"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/need"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/space"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/uml"
)

// envKernel names the variable with which the user insists on a kernel.
const envKernel = "LAB_KERNEL"

// The kernels that are not built: this machine's, and the one that Debian has as a package, which is 6.1 in Debian 12.
const (
	kernelHost     = "host"
	kernelUML      = "uml"
	kernelPackaged = "6.1"
)

// kernels returns all values of envKernel.
func kernels() []string {
	names := []string{kernelHost, kernelUML, kernelPackaged}
	for _, s := range build.All() {
		names = append(names, string(s))
	}
	return names
}

// seriesOf returns the series of a kernel that is built for the lab.
func seriesOf(kernel string) (build.Series, bool) {
	s := build.Series(kernel)
	return s, slices.Contains(build.All(), s)
}

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
	if wanted != "" && !slices.Contains(kernels(), wanted) {
		return choice{}, fmt.Errorf("parse %s=%s: want one of %s", envKernel, wanted, strings.Join(kernels(), ", "))
	}
	if missing := need.Missing(need.ForCommands(), os.Getenv("PATH")); len(missing) > 0 {
		return choice{}, missingError(missing)
	}
	if wanted != "" && wanted != kernelHost {
		return chooseGuest(wanted, wanted+" is wanted")
	}
	here := "this kernel (" + release() + ")"
	refusal := space.Probe()
	if refusal == nil {
		return choice{name: here, reason: here + " has IPVS and ipset"}, nil
	}
	reason := here + " " + refusal.Error()
	if wanted == kernelHost {
		return choice{}, errors.New(reason)
	}
	return chooseGuest(kernelUML, reason)
}

// chooseGuest returns a kernel to boot.
func chooseGuest(wanted, reason string) (choice, error) {
	k, err := findGuest(wanted)
	if err != nil {
		return choice{}, fmt.Errorf("%s; it cannot be booted: %w", reason, err)
	}
	if missing := need.Missing(need.ForGuest()[1:], os.Getenv("PATH")); len(missing) > 0 {
		return choice{}, missingError(missing)
	}
	return choice{guest: &k, name: "user-mode Linux " + k.Version, reason: reason}, nil
}

func findGuest(wanted string) (uml.Kernel, error) {
	if series, ok := seriesOf(wanted); ok {
		store, err := build.OpenStore()
		if err != nil {
			return uml.Kernel{}, err
		}
		built, err := store.Find(series)
		if err != nil {
			return uml.Kernel{}, err
		}
		return uml.Built(built.Program(), built.Modules, os.Getenv)
	}
	if wanted == kernelUML {
		return uml.Find(os.Getenv)
	}
	k, err := uml.Packaged(os.Getenv)
	if err == nil && !strings.HasPrefix(k.Version, wanted+".") {
		err = fmt.Errorf("the package user-mode-linux of this machine has %s", k.Version)
	}
	return k, err
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
	nft, err := wantsNFT(os.Getenv(envIptables), k)
	if err != nil {
		return 0, err
	}
	c := job.Command{Argv: argv, Env: env, Dir: dir, NFT: nft}
	return uml.Run(k, c, memory, signals)
}

// envIptables chooses the kind of iptables in the guest. envInside names the kernel to commands in the lab.
const (
	envIptables = "LAB_IPTABLES"
	envInside   = "LAB_INSIDE"
)

// wantsNFT reports whether iptables is to be the one on nf_tables, as on today's systems. Debian's packaged kernel
// cannot: it has no nf_tables for ip and ip6.
func wantsNFT(kind string, k uml.Kernel) (bool, error) {
	switch kind {
	case "":
		return !k.Packaged, nil
	case "legacy":
		return false, nil
	case "nft":
		if k.Packaged {
			return false, fmt.Errorf("%s=%s: the packaged kernel has no nf_tables for ip and ip6; choose another with %s", envIptables, kind, envKernel)
		}
		return true, nil
	}
	return false, fmt.Errorf("parse %s=%s: want nft or legacy", envIptables, kind)
}

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
