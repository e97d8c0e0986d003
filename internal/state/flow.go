// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Flow is the connections that the kernel tracks from any client to a Service's address and port, and on to one
// endpoint. With the zero Endpoint it is those to any endpoint, and those that never got one.
type Flow struct {
	Protocol Protocol
	Service  netip.AddrPort // where clients send to
	Endpoint netip.AddrPort // who answers
}

// Untranslated reports whether f is the connections that were sent on as they came, since their address was no
// Service's then.
func (f Flow) Untranslated() bool { return f.Endpoint == f.Service }

// Compare orders by Service, protocol, endpoint.
func (f Flow) Compare(o Flow) int {
	return cmp.Or(f.Service.Compare(o.Service), cmp.Compare(f.Protocol, o.Protocol), f.Endpoint.Compare(o.Endpoint))
}

// String is "UDP 10.96.0.10:53 -> 10.244.1.7:53", or "UDP 10.96.0.10:53 -> any".
func (f Flow) String() string {
	endpoint := "any"
	if f.Endpoint.IsValid() {
		endpoint = f.Endpoint.String()
	}
	return f.Protocol.String() + " " + f.Service.String() + " -> " + endpoint
}

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
