// SPDX-License-Identifier: Apache-2.0

package need

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Install installs packages with apt-get and prints one line about it. It updates the package lists only if the install
// fails without that.
func Install(packages []string, say io.Writer) error {
	if len(packages) == 0 {
		return nil
	}
	names := strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("install %s: this system has no apt-get; install them by its own means", names)
	}
	fmt.Fprintf(say, "lab: installing %s with apt-get\n", names)
	if aptGet(installArguments(packages)...) == nil {
		return nil
	}
	if err := aptGet("-q", "update"); err != nil {
		return fmt.Errorf("fetch the lists of packages: %w", err)
	}
	if err := aptGet(installArguments(packages)...); err != nil {
		return fmt.Errorf("install %s: %w", names, err)
	}
	return nil
}

func installArguments(packages []string) []string {
	return append([]string{"-q", "-y", "--no-install-recommends", "install"}, packages...)
}

// aptGet runs apt-get, which must not ask, and shows its output only if it fails.
func aptGet(args ...string) error {
	cmd := exec.Command("apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
