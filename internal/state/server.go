// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// VirtualServerKey identifies a virtual server: by address, port and protocol, or by a firewall mark. With a mark,
// Address is the unspecified address and port 0 of the family, and Protocol is 0.
type VirtualServerKey struct {
	Address  netip.AddrPort
	Protocol Protocol
	Mark     uint32
}

// MarkKey is the key of the virtual server for packets with a firewall mark.
func MarkKey(f Family, mark uint32) VirtualServerKey {
	return VirtualServerKey{Address: netip.AddrPortFrom(f.Unspecified(), 0), Mark: mark}
}

// Family is the IP family of the virtual server and of all its real servers (kube-ipvs makes no mixed ones).
func (k VirtualServerKey) Family() Family { return FamilyOf(k.Address.Addr()) }

// Transport is the protocol of the packets that reach the virtual server: one with a mark of ours knows it by the mark.
// 0: any.
func (k VirtualServerKey) Transport() Protocol {
	if k.Mark != 0 {
		return MarkProtocol(k.Mark)
	}
	return k.Protocol
}

// Compare orders by address, port, protocol, mark.
func (k VirtualServerKey) Compare(o VirtualServerKey) int {
	return cmp.Or(k.Address.Compare(o.Address), cmp.Compare(k.Protocol, o.Protocol), cmp.Compare(k.Mark, o.Mark))
}

// String is as ipvsadm lists it: "TCP 10.96.0.1:443", "FWM 256", and for IPv6 marks "FWM 256 IPv6".
func (k VirtualServerKey) String() string {
	if k.Mark == 0 {
		return k.Protocol.String() + " " + k.Address.String()
	}
	if k.Family() == IPv6 {
		return fmt.Sprintf("FWM %d IPv6", k.Mark)
	}
	return fmt.Sprintf("FWM %d", k.Mark)
}

// ParseVirtualServerKey reads what String wrote.
func ParseVirtualServerKey(s string) (VirtualServerKey, error) {
	kind, rest, _ := strings.Cut(s, " ")
	if kind == "FWM" {
		return parseMarkKey(rest)
	}
	p, err := ParseProtocol(kind)
	if err != nil {
		return VirtualServerKey{}, fmt.Errorf("virtual server %q: %w", s, err)
	}
	a, err := parseAddrPort(rest)
	if err != nil {
		return VirtualServerKey{}, fmt.Errorf("virtual server %q: %w", s, err)
	}
	return VirtualServerKey{Address: a, Protocol: p}, nil
}

func parseMarkKey(s string) (VirtualServerKey, error) {
	number, family, hasFamily := strings.Cut(s, " ")
	mark, err := strconv.ParseUint(number, 10, 32)
	if err != nil || mark == 0 {
		return VirtualServerKey{}, fmt.Errorf("virtual server: mark %q is not a number from 1 to 2^32-1", number)
	}
	switch {
	case !hasFamily:
		return MarkKey(IPv4, uint32(mark)), nil
	case family == IPv6.String():
		return MarkKey(IPv6, uint32(mark)), nil
	}
	return VirtualServerKey{}, fmt.Errorf("virtual server: family %q of mark %d is not IPv6", family, mark)
}

// ServerFlags are the kernel's IP_VS_SVC_F_* bits.
type ServerFlags uint32

// The bits of ServerFlags that a desired virtual server can have. The kernel's own bit 0x2 (hashed) is masked off
// wherever flags are read.
const (
	Persistent ServerFlags = 0x01 // session affinity by client address
	OnePacket  ServerFlags = 0x04 // each UDP packet is scheduled by itself
	Sched1     ServerFlags = 0x08 // sh-fallback, mh-fallback
	Sched2     ServerFlags = 0x10 // sh-port, mh-port
	Sched3     ServerFlags = 0x20
)

// VirtualServer is what a virtual server should be.
type VirtualServer struct {
	Scheduler string      // the kernel's name: "rr", "lc", "mh", ...
	Flags     ServerFlags // without the kernel's hashed bit
	Timeout   uint32      // persistence, in seconds; 0 unless Persistent
	Prefix    uint8       // persistence granularity: bits of the client address; 32 or 128 for ours
	Engine    string      // persistence engine ("sip"); empty for all of ours
}

// RealServerKey identifies a real server within its virtual server.
type RealServerKey struct {
	Server  VirtualServerKey
	Address netip.AddrPort
}

// At is where the real server gets a packet that was sent to a port. One without a port gets it at that.
func (k RealServerKey) At(port uint16) netip.AddrPort {
	if k.Address.Port() != 0 {
		return k.Address
	}
	return netip.AddrPortFrom(k.Address.Addr(), port)
}

// Compare orders by virtual server, then address.
func (k RealServerKey) Compare(o RealServerKey) int {
	return cmp.Or(k.Server.Compare(o.Server), k.Address.Compare(o.Address))
}

// String is "TCP 10.96.0.1:443 -> 192.0.2.1:6443".
func (k RealServerKey) String() string { return k.Server.String() + " -> " + k.Address.String() }

// ParseRealServerKey reads what String wrote.
func ParseRealServerKey(s string) (RealServerKey, error) {
	server, address, ok := strings.Cut(s, " -> ")
	if !ok {
		return RealServerKey{}, fmt.Errorf("real server %q has no \" -> \"", s)
	}
	k, err := ParseVirtualServerKey(server)
	if err != nil {
		return RealServerKey{}, err
	}
	a, err := parseAddrPort(address)
	if err != nil {
		return RealServerKey{}, fmt.Errorf("real server %q: %w", s, err)
	}
	return RealServerKey{Server: k, Address: a}, nil
}

// ForwardMethod says how packets reach a real server.
type ForwardMethod uint8

// The kernel's IP_VS_CONN_F_* forwarding methods. All of ours are Masquerade.
const (
	Masquerade ForwardMethod = 0
	LocalNode  ForwardMethod = 1
	Tunnel     ForwardMethod = 2
	Route      ForwardMethod = 3
	Bypass     ForwardMethod = 4
)

// String is ipvsadm's word in listings.
func (m ForwardMethod) String() string {
	if names := [...]string{"Masq", "Local", "Tunnel", "Route", "Bypass"}; int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("Method%d", uint8(m))
}

// ParseForwardMethod reads what String wrote.
func ParseForwardMethod(s string) (ForwardMethod, error) {
	for m := Masquerade; m <= Bypass; m++ {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("forwarding method %q is none of Masq, Local, Tunnel, Route, Bypass", s)
}

// RealServer is what a real server should be.
type RealServer struct {
	Weight uint32 // 0: no new connections, which is how a draining server looks
	Method ForwardMethod
	Upper  uint32 // connections above which the server takes no new ones; 0: no limit
	Lower  uint32 // connections below which it takes new ones again; 0: no limit
}

// Counters are what the kernel counted for a virtual or real server since it was made, and its estimate of the rates
// per second.
type Counters struct {
	Connections, PacketsIn, PacketsOut, BytesIn, BytesOut                uint64
	ConnectionRate, PacketRateIn, PacketRateOut, ByteRateIn, ByteRateOut uint64
}

// Connections are the connections that a real server has now. Inactive ones are those not in the established state
// (TCP), and all of UDP.
type Connections struct {
	Active, Inactive, Persistent uint32
}

// Load is what a virtual server has been used for, and is at present.
type Load struct {
	Counters    Counters
	Connections Connections // of all its real servers
}

// A virtual server of ours may be known by a firewall mark: those that older versions made, which drain and go. The
// mark named one port of one Service, or all its ports of a protocol:
//
//	bits 31-24  0x4b
//	bits 23-22  the protocol: 1 TCP, 2 UDP, 3 SCTP
//	bit  21     its packets were masqueraded
//	bits 20-0   which: below 65536 the NodePort, else a hash
const (
	// MarkMask covers the bits by which a mark is known as ours, MarkValue.
	MarkMask  uint32 = 0xff << 24
	MarkValue uint32 = 0x4b << 24
)

// OurMark reports whether a mark is one of ours.
func OurMark(mark uint32) bool { return mark&MarkMask == MarkValue }

// MarkProtocol is the protocol that a mark of ours was made for, and 0 for any other mark.
func MarkProtocol(mark uint32) Protocol {
	if !OurMark(mark) {
		return 0
	}
	return [...]Protocol{0, TCP, UDP, SCTP}[mark>>22&3]
}
