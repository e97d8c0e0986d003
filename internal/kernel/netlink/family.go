// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// FamilyNumber is the kernel's number of a family, the same in all subsystems. Without a family it is
// AF_UNSPEC, as for a set of ports alone.
func FamilyNumber(f state.Family) uint8 {
	switch f {
	case state.IPv4:
		return unix.AF_INET
	case state.IPv6:
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}
