// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

// The lab's own folder inside the guest, in a tmpfs, and its part that comes first in PATH.
const (
	ownFolder  = "/run/lab"
	binFolder  = ownFolder + "/bin"
	modprobe   = binFolder + "/modprobe"
	moduleRoot = ownFolder + "/lib/modules"
)

// wrapper returns a modprobe that finds the guest kernel's modules, which are not at the usual place: -d takes a folder
// with lib/modules/VERSION in it.
func wrapper(realModprobe string) string {
	return "#!/bin/sh\nexec " + realModprobe + " -d " + ownFolder + " \"$@\"\n"
}

// iptablesNames returns the commands that both kinds of iptables have.
func iptablesNames() []string {
	return []string{
		"iptables", "iptables-save", "iptables-restore",
		"ip6tables", "ip6tables-save", "ip6tables-restore",
	}
}

// iptablesProgram returns the program of the chosen kind of iptables.
func iptablesProgram(nft bool) string {
	if nft {
		return "xtables-nft-multi"
	}
	return "xtables-legacy-multi"
}

// installTools fills the folder that comes first in PATH.
func installTools(c job.Command, version string) error {
	for _, folder := range []string{binFolder, moduleRoot} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("make the lab's folder: %w", err)
		}
	}
	multi, err := exec.LookPath(iptablesProgram(c.NFT))
	if err != nil {
		return fmt.Errorf("choose the kind of iptables: %w", err)
	}
	for _, name := range iptablesNames() {
		if err := os.Symlink(multi, filepath.Join(binFolder, name)); err != nil {
			return fmt.Errorf("choose the kind of iptables: %w", err)
		}
	}
	return installModprobe(c.Modules, version)
}

// pretender is the modprobe of a kernel without a folder of modules: what it has is built in.
const pretender = "#!/bin/sh\nexit 0\n"

// installModprobe makes modprobe work for commands, and for the kernel when it loads a module on demand.
func installModprobe(modules, version string) error {
	realModprobe, err := exec.LookPath("modprobe")
	if err != nil {
		return nil
	}
	program := pretender
	if modules != "" {
		if err := os.Symlink(modules, filepath.Join(moduleRoot, version)); err != nil {
			return fmt.Errorf("link the module folder: %w", err)
		}
		program = wrapper(realModprobe)
	}
	if err := os.WriteFile(modprobe, []byte(program), 0o755); err != nil {
		return fmt.Errorf("wrap modprobe: %w", err)
	}
	err = os.WriteFile("/proc/sys/kernel/modprobe", []byte(modprobe), 0)
	// A kernel that cannot load modules calls no modprobe.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set the kernel.modprobe sysctl: %w", err)
	}
	return nil
}
