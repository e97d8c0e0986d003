// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Family is an IP family.
type Family uint8

// The two families. The values are the IP version numbers.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf is the family of a. An IPv4 address in IPv6 form counts as IPv6, as the kernel sees it; addresses are
// unmapped where they are parsed.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String is Kubernetes' word: "IPv4" or "IPv6".
func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

// ParseFamily reads what String wrote.
func ParseFamily(s string) (Family, error) {
	for _, f := range []Family{IPv4, IPv6} {
		if f.String() == s {
			return f, nil
		}
	}
	return 0, fmt.Errorf("family %q is neither IPv4 nor IPv6", s)
}

// Bits is the length of a host prefix: 32 or 128.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// Unspecified is 0.0.0.0 or ::.
func (f Family) Unspecified() netip.Addr {
	if f == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols that a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is "TCP", "UDP" or "SCTP", as Kubernetes and ipvsadm write it, and the bare number for a protocol that is none
// of these.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprint(uint8(p))
}

// Lower is "tcp", "udp" or "sctp", as ipset writes it.
func (p Protocol) Lower() string { return strings.ToLower(p.String()) }

// ParseProtocol reads what String or Lower wrote, names in any case.
func ParseProtocol(s string) (Protocol, error) {
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if p.String() == strings.ToUpper(s) {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("protocol %q is none of TCP, UDP, SCTP, and no number from 1 to 255", s)
	}
	return Protocol(n), nil
}

// parseAddr reads an address as the kernel's tables have them: without a zone.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("address %q has a zone", s)
	}
	return a, nil
}

// parseAddrPort reads an address and port as the kernel's tables have them: without a zone.
func parseAddrPort(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("address %q has a zone", s)
	}
	return a, nil
}

// ParseAddress reads what an Address's String wrote.
func ParseAddress(s string) (Address, error) {
	a, err := parseAddr(s)
	return Address{a}, err
}

// LinkName is the name of a network device. We manage one, DummyLink.
type LinkName string

// DummyLink is the device that carries the Service addresses. CNIs and operators' scripts know it by this name from
// kube-proxy.
const DummyLink LinkName = "kube-ipvs0"

// Compare orders names.
func (n LinkName) Compare(o LinkName) int { return cmp.Compare(n, o) }

// Link is what a device is.
type Link struct {
	Kind string // the rtnetlink kind: "dummy"
}

// Address is an IP address whose packets the node takes by DummyLink, always as a host prefix.
type Address struct{ netip.Addr }

// Compare orders IPv4 before IPv6, then by number.
func (a Address) Compare(b Address) int { return a.Addr.Compare(b.Addr) }

// Binding is the value of an Address: how the node comes to take its packets.
type Binding struct {
	Means Means
	// Source is the address from which the node's own packets to a routed Address come. Not valid: as the kernel
	// chooses.
	Source netip.Addr
	// MTU is what the node's own packets to an IPv4 Address are cut to. 0: that of the loopback device, which is more
	// than others carry.
	MTU uint32
}

// Means is what makes the kernel take packets to an Address.
type Means uint8

// The means. The zero one is kube-proxy's.
const (
	// Assigned: it is an address of DummyLink, of which the kernel makes a route.
	Assigned Means = iota
	// Routed: only that route is there, made by us, and no address.
	Routed
	// Doubled: both are, as in the middle of a change from one to the other. The address counts. It is observed, and
	// never desired.
	Doubled
)

// String is "assigned", "routed" or "doubled".
func (m Means) String() string {
	if names := [...]string{"assigned", "routed", "doubled"}; int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("means %d", uint8(m))
}

// ParseBinding reads what a Binding's String wrote.
func ParseBinding(s string) (Binding, error) {
	text, number, limited := strings.Cut(s, " mtu ")
	word, source, from := strings.Cut(text, " from ")
	var b Binding
	if limited {
		mtu, err := strconv.ParseUint(number, 10, 32)
		if err != nil || mtu == 0 {
			return b, fmt.Errorf("mtu %q of %q is no number from 1 on", number, s)
		}
		b.MTU = uint32(mtu)
	}
	for _, b.Means = range []Means{Assigned, Routed, Doubled} {
		switch {
		case word != b.Means.String():
		case !from:
			return b, nil
		case b.Means != Assigned:
			var err error
			b.Source, err = parseAddr(source)
			return b, err
		}
	}
	return Binding{}, fmt.Errorf("%q is neither assigned, routed nor doubled, the last two perhaps from an address", s)
}

// String is the means, and the source and the MTU behind it: "routed from 192.0.2.1 mtu 1500".
func (b Binding) String() string {
	text := b.Means.String()
	if b.Source.IsValid() {
		text += " from " + b.Source.String()
	}
	if b.MTU > 0 {
		text += fmt.Sprintf(" mtu %d", b.MTU)
	}
	return text
}

// What distinguishes our routes from others on DummyLink, in the kernel's table local.
const (
	// RouteProtocol is rtnetlink's protocol of a route, which says what made it. No routing program has it, nor is it
	// one that operators use (static): so that no route of ours is taken for another's, or another's for ours.
	RouteProtocol = 73
	// RouteMetric puts our routes behind those that the kernel makes of addresses, which have none: both can be there.
	RouteMetric = 1024
)

// Anchor is an address that DummyLink has beside the Service addresses that are routed: with the last IPv4 address of a
// device the kernel takes away all of the device's IPv4 routes. It is one of loopback, which is the node's anyway.
func Anchor() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 73}) }

// SysctlName is a path below /proc/sys, such as "net/ipv4/vs/conntrack", or one of IPVS' three timeouts.
type SysctlName string

// IPVS' timeouts of silent connections, in seconds. They are settings of the node like the sysctls beside them, but the
// kernel has them behind netlink only (IPVS_CMD_SET_CONFIG).
const (
	TCPTimeout    SysctlName = "ipvs/timeout/tcp"
	TCPFinTimeout SysctlName = "ipvs/timeout/tcpfin"
	UDPTimeout    SysctlName = "ipvs/timeout/udp"
)

// Compare orders names.
func (n SysctlName) Compare(o SysctlName) int { return cmp.Compare(n, o) }

// Families is a set of IP families.
type Families uint8

// The sets that are not made of one family.
const (
	NoFamily     Families = 0
	BothFamilies Families = 1<<0 | 1<<1
)

// FamiliesOf is the set of one family.
func FamiliesOf(f Family) Families { return 1 << f.Index() }

// Has reports whether f is in the set.
func (s Families) Has(f Family) bool { return s&FamiliesOf(f) != 0 }

// Index is where arrays by family have f.
func (f Family) Index() int {
	if f == IPv4 {
		return 0
	}
	return 1
}

// Families are those that the sysctl serves: both.
func (SysctlName) Families() Families { return BothFamilies }

// Families are those that the device serves: both.
func (LinkName) Families() Families { return BothFamilies }

// Families is that of the set.
func (n SetName) Families() Families { return FamiliesOf(n.Family()) }

// Families is that of the entry's set.
func (e SetEntry) Families() Families { return e.Set.Families() }

// Families is that of the chain.
func (k ChainKey) Families() Families { return FamiliesOf(k.Family) }

// Families is that of the jump.
func (k JumpKey) Families() Families { return FamiliesOf(k.Family) }

// Families is that of the virtual server.
func (k VirtualServerKey) Families() Families { return FamiliesOf(k.Family()) }

// Families is that of the virtual server.
func (k RealServerKey) Families() Families { return k.Server.Families() }

// Families is that of the address.
func (a Address) Families() Families { return FamiliesOf(FamilyOf(a.Addr)) }
