// SPDX-License-Identifier: Apache-2.0

// Package uml boots a user-mode Linux kernel on the host, with the host's files as its root, to run one command in it.
// Package guest is the side inside.
package uml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The environment variables that replace the packaged kernel by another.
const (
	// EnvKernel names the program.
	EnvKernel = "LAB_UML"
	// EnvModules names the folder of its modules; without it everything counts as built in.
	EnvModules = "LAB_UML_MODULES"
	// EnvArguments are further kernel arguments, separated by spaces.
	EnvArguments = "LAB_UML_ARGS"
)

const (
	packagedKernel  = "linux.uml"
	packagedModules = "/usr/lib/uml/modules"
)

// Kernel is a user-mode Linux kernel.
type Kernel struct {
	Program string
	Version string
	// Packaged says that it is Debian's package.
	Packaged bool
	// Modules is the folder of its modules; empty if it needs none.
	Modules string
	// Arguments are kernel arguments beyond those that the lab needs.
	Arguments []string
}

// Find returns the kernel that the environment names, or the packaged one.
func Find(getenv func(string) string) (Kernel, error) {
	name := getenv(EnvKernel)
	if name == "" {
		return Packaged(getenv)
	}
	k, err := ask(name, getenv)
	if err != nil {
		return Kernel{}, err
	}
	k.Modules = getenv(EnvModules)
	return k, k.check()
}

// Packaged returns Debian's kernel.
func Packaged(getenv func(string) string) (Kernel, error) {
	k, err := ask(packagedKernel, getenv)
	if err != nil {
		return Kernel{}, err
	}
	k.Packaged, k.Modules = true, getenv(EnvModules)
	if k.Modules == "" {
		k.Modules = filepath.Join(packagedModules, k.Version)
	}
	return k, k.check()
}

// Built returns a kernel that was built for the lab. Modules returns the folder of the modules of a version.
func Built(program string, modules func(version string) string, getenv func(string) string) (Kernel, error) {
	k, err := ask(program, getenv)
	if err != nil {
		return Kernel{}, err
	}
	k.Modules = modules(k.Version)
	k.Arguments = append(builtIn(), k.Arguments...)
	return k, k.check()
}

// builtIn returns the arguments of a kernel whose modules are all built in: they must not make links of their own. With
// seccomp, which the kernel has since 6.16, system calls take half the time.
func builtIn() []string {
	return []string{"dummy.numdummies=0", "fb_tunnels=none", "seccomp=auto"}
}

// ask asks a kernel for its version.
func ask(name string, getenv func(string) string) (Kernel, error) {
	program, err := exec.LookPath(name)
	if err != nil {
		return Kernel{}, fmt.Errorf("%s is missing: apt-get install user-mode-linux (or lab --install)", name)
	}
	version, err := exec.Command(program, "--version").Output()
	if err != nil {
		return Kernel{}, fmt.Errorf("ask %s for its version: %w", program, err)
	}
	return Kernel{
		Program:   program,
		Version:   strings.TrimSpace(string(version)),
		Arguments: strings.Fields(getenv(EnvArguments)),
	}, nil
}

func (k Kernel) check() error {
	if k.Modules == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(k.Modules, "modules.dep")); err != nil {
		return fmt.Errorf("the modules of %s are missing (%w): install it again", k.Program, errors.Unwrap(err))
	}
	return nil
}
