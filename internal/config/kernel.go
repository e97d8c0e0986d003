// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Kernel is the version of a Linux kernel, and what it lacks.
type Kernel struct {
	Major, Minor int
	NoNetmap     bool // without the target NETMAP there is no affinity over all ports
}

// ParseKernel reads a release as uname prints it: "6.1.0-13-amd64".
func ParseKernel(release string) (Kernel, error) {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		minor = rest[:end]
	}
	m, errMajor := strconv.ParseUint(major, 10, 16)
	n, errMinor := strconv.ParseUint(minor, 10, 16)
	if errMajor != nil || errMinor != nil {
		return Kernel{}, fmt.Errorf("parsing kernel release %q: it does not begin with two numbers", release)
	}
	return Kernel{Major: int(m), Minor: int(n)}, nil
}

// Before reports whether k is known and older than major.minor.
func (k Kernel) Before(major, minor int) bool {
	return k.Major+k.Minor > 0 && (k.Major < major || k.Major == major && k.Minor < minor)
}

// ShiftsPorts reports whether destination NAT can move all ports by the same number (NF_NAT_RANGE_PROTO_OFFSET, 4.18).
func (k Kernel) ShiftsPorts() bool { return !k.Before(4, 18) }

// DelaysReuse reports whether the kernel has net.ipv4.vs.conn_reuse_mode (4.1) and makes a client that reuses its
// source port wait a second with it, which 5.9 fixed (kubernetes#81775).
func (k Kernel) DelaysReuse() bool { return k.Before(5, 9) && !k.Before(4, 1) }
