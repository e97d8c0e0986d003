// SPDX-License-Identifier: Apache-2.0

// Package build builds user-mode Linux kernels from Debian's packages of kernel sources, and keeps them in the user's
// cache. It leaves the machine's own list of package sources as it is, and installs nothing from another release.
package build

import (
	"strconv"
	"strings"
)

// Series is a line of kernels: 6.12 is one, and 7 stands for the newest 7.x that Debian has.
type Series string

// All returns the series that the lab offers.
func All() []Series { return []Series{"6.12", "7"} }

// packagePrefix is what the names of Debian's packages of kernel sources begin with.
const packagePrefix = "linux-source-"

// minor returns the second number of a package's kernel version if the package is of the series.
func (s Series) minor(name string) (int, bool) {
	version, ok := strings.CutPrefix(name, packagePrefix)
	if !ok {
		return 0, false
	}
	major, minor, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(minor)
	return n, err == nil && (string(s) == version || string(s) == major)
}

// newestOf returns the package of the series with the highest version.
func (s Series) newestOf(names []string) (string, bool) {
	newest, highest := "", -1
	for _, name := range names {
		if n, ok := s.minor(name); ok && n > highest {
			newest, highest = name, n
		}
	}
	return newest, newest != ""
}
