// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net/netip"
)

// Forward is a NodePort on localhost: what comes to it at the loopback address of To's family goes to To.
type Forward struct {
	Protocol Protocol // TCP or UDP; others are not forwarded
	NodePort uint16
	To       netip.AddrPort // where the kernel serves the same port of the Service
}

// At is where clients connect to.
func (f Forward) At() netip.AddrPort {
	if FamilyOf(f.To.Addr()) == IPv4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), f.NodePort)
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), f.NodePort)
}

// String is "TCP 127.0.0.1:30080 -> 10.96.0.10:80".
func (f Forward) String() string {
	return fmt.Sprintf("%v %v -> %v", f.Protocol, f.At(), f.To)
}
