// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// runner runs programs. What they print goes to a log.
type runner struct{ log io.Writer }

// logged runs a program in a folder.
func (r runner) logged(folder, name string, args ...string) error {
	fmt.Fprintf(r.log, "+ %s %s\n", name, strings.Join(args, " "))
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = folder, environ(os.Environ())
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}

// output returns what a program prints.
func (r runner) output(name string, args ...string) (string, error) {
	fmt.Fprintf(r.log, "+ %s %s\n", name, strings.Join(args, " "))
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stderr = environ(os.Environ()), r.log
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	return string(out), nil
}

// environ returns the environment of a build: without what make, a caller's make or the user's language would change.
func environ(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "LANG", "LANGUAGE", "ARCH", "CROSS_COMPILE", "KBUILD_OUTPUT":
		default:
			kept = append(kept, e)
		}
	}
	return append(kept, "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "XZ_DEFAULTS=--threads=0",
		"KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab")
}
