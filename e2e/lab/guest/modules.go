// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// upFront returns the modules that are loaded before the command starts. ipv6 comes first: some modules load it, but
// others only check whether it is there. The rest would not be loaded by itself in time, or would slow down a test's
// first call.
func upFront() []string {
	return []string{
		"ipv6", "nf_conntrack", "nf_conntrack_netlink", "ip_vs", "ip_set",
		"iptable_nat", "iptable_filter", "iptable_mangle",
		"ip6table_nat", "ip6table_filter", "ip6table_mangle",
		"dummy", "veth", "bridge",
	}
}

// dependencies is modules.dep: what must be loaded before a module, by the module's file.
type dependencies struct {
	// file finds a module's file by its name.
	file map[string]string
	// needs are a file's dependencies in the order of modules.dep: the last one comes first.
	needs map[string][]string
}

// parseDependencies reads the format that depmod writes: "file: dependency dependency...".
func parseDependencies(r io.Reader) (dependencies, error) {
	d := dependencies{file: map[string]string{}, needs: map[string][]string{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		file, needs, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return dependencies{}, fmt.Errorf("line %q has no colon", lines.Text())
		}
		d.file[moduleName(file)] = file
		d.needs[file] = strings.Fields(needs)
	}
	return d, lines.Err()
}

// moduleName returns the kernel's name of a module file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// plan returns the order in which to load files so that all named modules are there. Names without a file are left out:
// they are built in, or not needed.
func (d dependencies) plan(names []string) []string {
	var order []string
	seen := map[string]bool{}
	add := func(file string) {
		if !seen[file] {
			seen[file] = true
			order = append(order, file)
		}
	}
	for _, name := range names {
		file, ok := d.file[name]
		if !ok {
			continue
		}
		needs := d.needs[file]
		for i := len(needs) - 1; i >= 0; i-- {
			add(needs[i])
		}
		add(file)
	}
	return order
}

// loadModules loads the modules of upFront from a folder of modules. It calls the kernel itself: starting modprobe for
// each would double the time to boot.
func loadModules(folder string) error {
	if folder == "" {
		return nil
	}
	f, err := os.Open(filepath.Join(folder, "modules.dep"))
	if err != nil {
		return fmt.Errorf("read module dependencies: %w", err)
	}
	defer f.Close()
	d, err := parseDependencies(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	for _, file := range d.plan(upFront()) {
		name := moduleName(file)
		if err := loadModule(filepath.Join(folder, file), parameters(name)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

// parameters returns a module's parameters: dummy would make a link of its own, dummy0, that no test expects.
func parameters(module string) string {
	if module == "dummy" {
		return "numdummies=0"
	}
	return ""
}

func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the module folder is not complete: %w", err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
