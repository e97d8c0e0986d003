// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one file system to mount.
type mount struct {
	kind, target string
	flags        uintptr
	options      string
}

// mounts returns the guest's own file systems, in order. Everything else, /tmp too, is the host's: test binaries come
// from there and results go there.
func mounts() []mount {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV
	return []mount{
		{"proc", "/proc", quiet | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", quiet | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", quiet, "mode=1777"},
		{"tmpfs", "/run", quiet, "mode=755"},
		{"cgroup2", "/sys/fs/cgroup", quiet | unix.MS_NOEXEC, ""},
	}
}

// hidden returns the paths of keep that the guest's own file systems would hide. They must be mounted again from the
// host. A path inside another one is left out.
func hidden(keep []string, own []mount) []string {
	var paths []string
	for _, p := range keep {
		if covered(p, own) && !within(p, paths) {
			paths = append(paths, p)
		}
	}
	return paths
}

// covered reports whether path lies below one of the mounts. A mount point itself is never the host's.
func covered(path string, own []mount) bool {
	for _, m := range own {
		if strings.HasPrefix(path, m.target+"/") {
			return true
		}
	}
	return false
}

func within(path string, folders []string) bool {
	for _, f := range folders {
		if path == f || strings.HasPrefix(path, f+"/") {
			return true
		}
	}
	return false
}

// mountAll mounts the guest's own file systems, and brings back what they hide of keep.
func mountAll(keep []string) error {
	own := mounts()
	for _, m := range own {
		if err := m.do(); err != nil {
			return err
		}
	}
	for _, p := range hidden(keep, own) {
		m := mount{"hostfs", p, 0, p}
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

func (m mount) do() error {
	if err := os.MkdirAll(filepath.Clean(m.target), 0o755); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.options)
	// The kernel mounts devtmpfs itself if the host has a /dev.
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}
