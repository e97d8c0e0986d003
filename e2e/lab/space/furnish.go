// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
)

// furnish makes the new namespaces usable: they see only their own processes and links, and tools have their own files
// in /run.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := mountFresh("proc", "/proc"); err != nil {
		return err
	}
	if err := privateSys(); err != nil {
		return err
	}
	if err := privateRun(); err != nil {
		return err
	}
	return child.RaiseLoopback()
}

func mountFresh(kind, target string) error {
	if err := unix.Mount(kind, target, kind, unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, target, err)
	}
	return nil
}

// privateSys mounts a sysfs that shows this network namespace's links, and puts the control groups back on it.
func privateSys() error {
	const groups = "/sys/fs/cgroup"
	old, err := openFolder(groups)
	if errors.Is(err, fs.ErrNotExist) {
		return mountFresh("sysfs", "/sys")
	}
	if err != nil {
		return err
	}
	defer old.Close()
	if err := mountFresh("sysfs", "/sys"); err != nil {
		return err
	}
	if err := bind(reach(old, "."), groups); err != nil {
		return fmt.Errorf("bind %s: %w", groups, err)
	}
	return nil
}

// notShared returns the entries of /run that the namespaces have for themselves: the named network namespaces and the
// lock of iptables.
func notShared() map[string]bool { return map[string]bool{"netns": true, "xtables.lock": true} }

// privateRun mounts a new /run with everything of the old one except what must not be shared. Mounting over those
// entries alone would not do: they may not exist, and making them would leave something behind.
func privateRun() error {
	old, err := openFolder("/run")
	if err != nil {
		return err
	}
	defer old.Close()
	entries, err := os.ReadDir("/run")
	if err != nil {
		return fmt.Errorf("list /run: %w", err)
	}
	if err := mountFresh("tmpfs", "/run"); err != nil {
		return err
	}
	private := notShared()
	for _, e := range entries {
		if private[e.Name()] {
			continue
		}
		// An entry may disappear at any moment.
		if err := carry(e, reach(old, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("carry /run/%s over: %w", e.Name(), err)
		}
	}
	return nil
}

// carry makes an entry of the old /run visible in the new one.
func carry(e fs.DirEntry, source string) error {
	target := filepath.Join("/run", e.Name())
	switch {
	case e.Type() == fs.ModeSymlink:
		to, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(to, target)
	case e.IsDir():
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(target, nil, 0o600); err != nil {
			return err
		}
	}
	return bind(source, target)
}

func bind(source, target string) error {
	return unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
}

// openFolder keeps a folder open that is about to be mounted over.
func openFolder(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// reach returns a path to an entry of a folder that has been mounted over.
func reach(folder *os.File, entry string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), entry)
}
