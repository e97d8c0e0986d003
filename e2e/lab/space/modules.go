// SPDX-License-Identifier: Apache-2.0

package space

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ledgerFile lists the modules that were loaded before the first of the labs that run now.
const ledgerFile = "/run/kube-ipvs-lab.modules"

// modulesFile lists the loaded modules. A kernel that cannot load any does not have it.
const modulesFile = "/proc/modules"

// releaseTime is how long the kernel may take to release a namespace's modules: it takes namespaces apart in the
// background, after their last process.
const releaseTime = time.Second

// Ledger is held while a lab may load modules. The last one to close it removes them.
type Ledger struct{ file *os.File }

// OpenLedger records the loaded modules, or joins the labs that already did.
func OpenLedger() (*Ledger, error) {
	for {
		f, err := os.OpenFile(ledgerFile, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open ledger of modules: %w", err)
		}
		joined, err := join(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("join %s: %w", ledgerFile, err), f.Close())
		}
		if joined {
			return &Ledger{f}, nil
		}
		f.Close()
	}
}

// join takes a share of the ledger; false if its last holder has just removed it.
func join(f *os.File) (bool, error) {
	fd := int(f.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
		if err := writeBaseline(f); err != nil {
			return false, err
		}
	}
	if err := unix.Flock(fd, unix.LOCK_SH); err != nil {
		return false, err
	}
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(ledgerFile)
	return err == nil && os.SameFile(held, named), nil
}

func writeBaseline(f *os.File) error {
	modules, err := os.ReadFile(modulesFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(modules, 0)
	return err
}

// Close gives the ledger up. If no other lab holds it, modules loaded since are unloaded.
func (l *Ledger) Close() error {
	defer l.file.Close()
	if unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	defer os.Remove(ledgerFile)
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read ledger of modules: %w", err)
	}
	before, err := parseModules(l.file)
	if err != nil {
		return fmt.Errorf("read ledger of modules: %w", err)
	}
	return unload(before)
}

// unload removes loaded modules that were not there before, as they become free.
func unload(before map[string]int) error {
	for limit := time.Now().Add(releaseTime); ; {
		now, err := loadedModules()
		if err != nil {
			return err
		}
		added := removable(before, now)
		if len(added) == 0 || time.Now().After(limit) {
			return nil
		}
		for _, name := range added {
			// A module in use refuses; it is tried again until the time is up.
			_ = unix.DeleteModule(name, unix.O_NONBLOCK)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func loadedModules() (map[string]int, error) {
	f, err := os.Open(modulesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	defer f.Close()
	return parseModules(f)
}

// parseModules reads the format of /proc/modules: name, size, how many use it...
func parseModules(r io.Reader) (map[string]int, error) {
	modules := map[string]int{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var name string
		var size, users int
		if _, err := fmt.Sscan(lines.Text(), &name, &size, &users); err != nil {
			return nil, fmt.Errorf("parse module line %q: %w", lines.Text(), err)
		}
		modules[name] = users
	}
	return modules, lines.Err()
}

// removable returns the added modules that are safe to remove: those that count their users and refuse to go while
// there are any. The modules of iptables tables and of links (dummy, veth, bridge) do not count them: removing one
// flushes a table or deletes links that others may have made since.
func removable(before, now map[string]int) []string {
	var names []string
	for name := range now {
		if _, there := before[name]; !there && countsUsers(name) {
			names = append(names, name)
		}
	}
	return names
}

func countsUsers(module string) bool {
	for _, prefix := range []string{"ip_vs", "ip_set", "xt_", "ipt_", "ip6t_", "nf_conntrack", "nf_nat", "nf_defrag_"} {
		if strings.HasPrefix(module, prefix) {
			return true
		}
	}
	return false
}
