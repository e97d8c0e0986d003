// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// EnvMemory is how much memory the guest has.
const EnvMemory = "LAB_MEM"

// DefaultMemory is the guest's default memory. Only what it uses is taken from the host.
const DefaultMemory = "2G"

// parseMemory turns 512M or 2G into bytes.
func parseMemory(s string) (uint64, error) {
	units := map[string]uint{"K": 10, "M": 20, "G": 30}
	for unit, shift := range units {
		number, ok := strings.CutSuffix(strings.ToUpper(s), unit)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(number, 10, 32); err == nil && n > 0 {
			return n << shift, nil
		}
	}
	return 0, fmt.Errorf("parse %s=%s: want a number and K, M or G, as in %s", EnvMemory, s, DefaultMemory)
}

// folder is a place for the guest's memory file.
type folder struct {
	path string
	free uint64
	// exec reports whether programs may be mapped from it: the guest runs from its memory.
	exec bool
}

// chooseFolder returns the first folder that the guest's memory fits into.
func chooseFolder(folders []folder, need uint64) (string, error) {
	var tried []string
	for _, f := range folders {
		switch {
		case !f.exec:
			tried = append(tried, f.path+" (mounted noexec)")
		case f.free < need:
			tried = append(tried, fmt.Sprintf("%s (%d MiB free)", f.path, f.free>>20))
		default:
			return f.path, nil
		}
	}
	return "", fmt.Errorf("find a place for %d MiB of guest memory: none of %s will do; set %s to less",
		need>>20, strings.Join(tried, ", "), EnvMemory)
}

// memoryFolder returns where the guest's memory file goes: into memory if there is room, else to the temporary files.
func memoryFolder(need uint64) (string, error) {
	var folders []folder
	for _, path := range []string{"/dev/shm", os.TempDir()} {
		var s unix.Statfs_t
		if unix.Statfs(path, &s) != nil {
			continue
		}
		folders = append(folders, folder{
			path: path,
			free: s.Bavail * uint64(s.Bsize),
			exec: s.Flags&unix.MS_NOEXEC == 0,
		})
	}
	return chooseFolder(folders, need)
}
