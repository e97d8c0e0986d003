// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"
	"strings"
)

// A frontend of traffic policy Local has two groups of clients: those from outside get its endpoints on this node,
// and this node and its pods get all. IPVS has one virtual server for an address and port, so the second group is
// sent to another one, by destination NAT, before IPVS sees its packets. A rule of iptables can't take the new
// address from a set. But it can move all ports by the same number, so one rule does for all frontends at Service
// addresses. A frontend at an address of the node keeps its port, as the node's other ports are not ours to have, and
// moves to an address of its own.

// The port that PortShift of a rule names moves to FirstPort: the kernel counts from there
// (nf_nat_l4proto_unique_tuple, NF_NAT_RANGE_PROTO_OFFSET, since 4.18).
const (
	PortShift = 32768
	FirstPort = 1
	LastPort  = 65535
)

// InsidePort is the port of the virtual server that clients in the cluster get at a Service address in place of port
// p. The kernel counts modulo 2^16 first and then modulo the ports that there are, so 32767 and 32768 have the same.
func InsidePort(p uint16) uint16 {
	return FirstPort + (p-PortShift)%(LastPort-FirstPort+1)
}

// InsideAddress is the address to which clients in the cluster are sent in place of one of the node's: of the
// link-local range, or one that was drawn at random (RFC 4193), as nothing else is at either.
func InsideAddress(f Family) netip.Addr {
	if f == IPv6 {
		return netip.AddrFrom16([16]byte{0xfd, 0x5f, 0x8a, 0x2c, 0x91, 0xd3, 15: 1})
	}
	return netip.AddrFrom4([4]byte{169, 254, 75, 1})
}

// JoinedNetwork is where the virtual servers are that have one affinity over all ports of a Service: IPVS has that
// only for all ports of an address, which at the Service's own address are not ours to have. A rule can't take an
// address from a set, but it can put this network in place of the first bits of all (NETMAP). The IPv4 one is of the
// class that is not assigned (RFC 1112), the IPv6 one was drawn at random.
func JoinedNetwork(f Family) netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x5f, 0x8a, 0x2c}), 32)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{250}), 8)
}

// JoinedAddress is where packets to a are sent, with the port that they have.
func JoinedAddress(a netip.Addr) netip.Addr { return InNetwork(a, JoinedNetwork(FamilyOf(a))) }

// InNetwork is what the target NETMAP makes of an address: the first bits are those of the network n, which is of a's
// family, and the others stay.
func InNetwork(a netip.Addr, n netip.Prefix) netip.Addr {
	bytes, first := a.AsSlice(), n.Addr().AsSlice()
	for i := range bytes {
		here := min(max(n.Bits()-8*i, 0), 8) // of the network's bits
		mask := byte(0xff << (8 - here))
		bytes[i] = first[i]&mask | bytes[i]&^mask
	}
	mapped, _ := netip.AddrFromSlice(bytes) // as many bytes as a has
	return mapped
}

// Inside reports whether an address is one that only rules of ours lead to, and so no Service's.
func Inside(a netip.Addr) bool {
	return a.IsValid() && (a == InsideAddress(FamilyOf(a)) || JoinedNetwork(FamilyOf(a)).Contains(a))
}

// LeadsTo is the virtual server to which an entry leads packets that were sent to another address and port, if it
// does.
func (e SetEntry) LeadsTo(v Entry) (VirtualServerKey, bool) {
	k := VirtualServerKey{Protocol: e.Protocol}
	switch {
	case v.Mark != 0:
		return MarkKey(FamilyOf(e.Address), v.Mark), true
	case strings.HasSuffix(string(e.Set), "-INSIDE"):
		k.Address = netip.AddrPortFrom(e.Address, InsidePort(e.Port))
	case strings.HasSuffix(string(e.Set), "-INSIDE-NODE"):
		k.Address = netip.AddrPortFrom(InsideAddress(FamilyOf(e.Address)), e.Port)
	case strings.HasSuffix(string(e.Set), "-ALL-PORTS") && e.Address.IsValid():
		k.Address = netip.AddrPortFrom(JoinedAddress(e.Address), 0)
	default:
		return VirtualServerKey{}, false
	}
	return k, e.Address.IsValid()
}
