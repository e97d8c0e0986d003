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
	// Modules is the folder of its modules; empty if it needs none.
	Modules string
	// Arguments are kernel arguments beyond those that the lab needs.
	Arguments []string
}

// Find returns the kernel to use.
func Find(getenv func(string) string) (Kernel, error) {
	name := getenv(EnvKernel)
	packaged := name == ""
	if packaged {
		name = packagedKernel
	}
	program, err := exec.LookPath(name)
	if err != nil {
		return Kernel{}, fmt.Errorf("%s is missing: apt-get install user-mode-linux (or lab --install)", name)
	}
	version, err := exec.Command(program, "--version").Output()
	if err != nil {
		return Kernel{}, fmt.Errorf("ask %s for its version: %w", program, err)
	}
	k := Kernel{
		Program:   program,
		Version:   strings.TrimSpace(string(version)),
		Modules:   getenv(EnvModules),
		Arguments: strings.Fields(getenv(EnvArguments)),
	}
	if packaged && k.Modules == "" {
		k.Modules = filepath.Join(packagedModules, k.Version)
	}
	return k, k.check()
}

func (k Kernel) check() error {
	if k.Modules == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(k.Modules, "modules.dep")); err != nil {
		return fmt.Errorf("the modules of %s are missing (%w): apt-get install --reinstall user-mode-linux",
			k.Program, errors.Unwrap(err))
	}
	return nil
}
