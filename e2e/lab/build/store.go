// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Store is the folder of built kernels. Each has a folder of its own, named by its series, the version of its source
// package and its configuration.
type Store string

// OpenStore returns the store in the user's cache.
func OpenStore() (Store, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of built kernels: %w", err)
	}
	return Store(filepath.Join(cache, "kube-ipvs", "kernels")), nil
}

// Kernel is a built kernel.
type Kernel struct{ folder string }

// The parts of a kernel's folder.
const (
	programFile = "linux"
	configFile  = "config"
	moduleRoot  = "lib/modules"
)

// Program is the path of the kernel.
func (k Kernel) Program() string { return filepath.Join(k.folder, programFile) }

// Modules is the folder of its modules, of which all are built in.
func (k Kernel) Modules(release string) string { return filepath.Join(k.folder, moduleRoot, release) }

// Find returns the last built kernel of a series with today's configuration. The error says how to build one.
func (s Store) Find(series Series) (Kernel, error) {
	folders, err := filepath.Glob(filepath.Join(string(s), string(series)+"_*_"+recipe()))
	if err != nil {
		return Kernel{}, fmt.Errorf("look for kernel %s: %w", series, err)
	}
	var found Kernel
	var last int64
	for _, folder := range folders {
		if info, err := os.Stat(folder); err == nil && info.ModTime().UnixNano() > last {
			found, last = Kernel{folder}, info.ModTime().UnixNano()
		}
	}
	if found.folder == "" {
		return Kernel{}, fmt.Errorf("kernel %s is not built: run lab --kernel %s --install, which takes some minutes", series, series)
	}
	return found, nil
}

// folder returns where a kernel belongs.
func (s Store) folder(series Series, version string) string {
	return filepath.Join(string(s), strings.Join([]string{string(series), version, recipe()}, "_"))
}

// recipe identifies how kernels are built: another configuration, or other parts kept, are another kernel.
func recipe() string {
	sum := sha256.Sum256([]byte(wantedText + strings.Join(kept(), " ")))
	return hex.EncodeToString(sum[:6])
}

// lock waits until no other lab builds, and returns the held lock.
func (s Store) lock() (*os.File, error) {
	if err := os.MkdirAll(string(s), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of built kernels: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(string(s), "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of built kernels: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the folder of built kernels: %w", err)
	}
	return f, nil
}
