// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// SetName is the name of an ipset, at most 31 bytes.
type SetName string

// Compare orders names.
func (n SetName) Compare(o SetName) int { return cmp.Compare(n, o) }

// Family goes by the name, as kube-proxy gives it: the header of a set of ports has no family.
func (n SetName) Family() Family {
	if strings.HasPrefix(string(n.Bare()), "KUBE-6-") {
		return IPv6
	}
	return IPv4
}

// temporarySet begins the names of sets that exist only while another one is being replaced.
const temporarySet = "KUBE-IPVS-TMP-"

// TemporarySet is the name of the set that is put together to take another one's place, by what is left of its name.
func TemporarySet(of string) SetName { return SetName(temporarySet + of) }

// Temporary reports whether n is such a name. A set that has it and is seen was left behind by a crash.
func (n SetName) Temporary() bool { return strings.HasPrefix(string(n), temporarySet) }

// KeepsClient reports whether an entry of the set lets clients keep their address, to which only endpoints of this node
// can answer.
func (n SetName) KeepsClient() bool {
	return strings.Contains(string(n), "-LOCAL") && !n.Refuses()
}

// Refuses reports whether packets that an entry of the set matches are dropped unless another entry has led them
// elsewhere.
func (n SetName) Refuses() bool { return strings.HasSuffix(string(n), "-NO-LOCAL") }

// Maps reports whether an entry of the set says where packets are led to, if the set can hold that: in nftables it is a
// map.
func (n SetName) Maps() bool {
	return strings.HasSuffix(string(n), "-INSIDE") || strings.HasSuffix(string(n), "-ALL-PORTS")
}

// HoldsSources reports whether the set's entries are what may come to a guarded frontend, and from where.
func (n SetName) HoldsSources() bool { return strings.Contains(string(n), "-SOURCE-") }

// ofEndpoints reports whether the addresses and ports of the set's entries are those of endpoints, and not of Services.
func (n SetName) ofEndpoints() bool { return strings.HasSuffix(string(n), "-LOOP-BACK") }

// The ends of the names of two sets that hold ports of the node.
const (
	nodePortsTCP = "-NODE-PORT-TCP"
	healthChecks = "-HEALTH-CHECK-NODE-PORT"
)

// HealthChecks reports whether the set's entries are ports at which load balancers ask for the health of Services.
func (n SetName) HealthChecks() bool { return strings.HasSuffix(string(n), healthChecks) }

// PortsAlone reports whether the set's entries are ports of the node, without an address or a protocol.
func (n SetName) PortsAlone() bool {
	return n.HealthChecks() || strings.HasSuffix(string(n), "-TCP") || strings.HasSuffix(string(n), "-UDP")
}

// SetType is ipset's name of what the entries of a set are made of.
type SetType string

// The set types that Services need.
const (
	HashIP        SetType = "hash:ip"
	HashIPPort    SetType = "hash:ip,port"
	HashIPPortIP  SetType = "hash:ip,port,ip"
	HashIPPortNet SetType = "hash:ip,port,net"
	BitmapPort    SetType = "bitmap:port"

	// Of nftables alone: what an entry leads to is in the entry, and not in the rule.
	MapIPPortToPort SetType = "map:ip,port:port"
	MapIPPortToIP   SetType = "map:ip,port:ip"
)

// IsMap reports whether an entry of such a set says where packets are led to.
func (t SetType) IsMap() bool { return t == MapIPPortToPort || t == MapIPPortToIP }

// Set is the header of a set. The kernel grows the hash size by itself, so it is no part of what is desired.
type Set struct {
	Type    SetType
	Family  Family // of hash types; 0 for bitmap:port, which has none
	MaxElem uint32 // of hash types: the kernel refuses more entries; 0 for bitmap:port
	Comment bool   // entries can carry a comment
	Marks   bool   // entries can carry a firewall mark (the extension skbinfo)
}

// SetEntry is one entry of one set. Which fields count depends on the type of the set; the others are zero.
type SetEntry struct {
	Set      SetName
	Address  netip.Addr   // hash types
	Protocol Protocol     // types with a port, but bitmap:port
	Port     uint16       // types with a port
	Source   netip.Prefix // hash:ip,port,ip (as a host prefix) and hash:ip,port,net
}

// Entry is what an entry carries along.
type Entry struct {
	// Comment names the Service port that the entry is for, "namespace/name:port", so that the kernel itself can say
	// whose row it is.
	Comment string

	// Mark is the firewall mark that a packet gets that the entry matches, by the whole mark; 0: none. Such an entry
	// steers: it sends packets to the virtual server of that mark.
	Mark uint32
}

// Server is the virtual server that e is about, by its address and port; not ok if it has none, or they are an
// endpoint's.
func (e SetEntry) Server() (k VirtualServerKey, ok bool) {
	if !e.Address.IsValid() || e.Port == 0 || e.Set.ofEndpoints() {
		return VirtualServerKey{}, false
	}
	return VirtualServerKey{Address: netip.AddrPortFrom(e.Address, e.Port), Protocol: e.Protocol}, true
}

// Rival is the entry by which another Service would have the same port of the node: that of a NodePort for one of a
// health check, and the other way round. Not ok: e is neither.
func (e SetEntry) Rival() (rival SetEntry, ok bool) {
	rival = e
	if name, is := strings.CutSuffix(string(e.Set), healthChecks); is {
		rival.Set = SetName(name + nodePortsTCP)
		return rival, true
	}
	name, is := strings.CutSuffix(string(e.Set), nodePortsTCP)
	rival.Set = SetName(name + healthChecks)
	return rival, is
}

// Compare orders by set, address, port, protocol, source.
func (e SetEntry) Compare(o SetEntry) int {
	return cmp.Or(
		cmp.Compare(e.Set, o.Set),
		e.Address.Compare(o.Address),
		cmp.Compare(e.Port, o.Port),
		cmp.Compare(e.Protocol, o.Protocol),
		e.Source.Addr().Compare(o.Source.Addr()),
		cmp.Compare(e.Source.Bits(), o.Source.Bits()),
	)
}

// String is the entry as ipset prints it, with its set in front: "KUBE-CLUSTER-IP 10.96.0.1,tcp:443".
func (e SetEntry) String() string { return string(e.Set) + " " + e.Member() }

// Member is the entry as ipset prints it below "Members:". Host prefixes are printed without their length, as ipset
// does.
func (e SetEntry) Member() string {
	if !e.Address.IsValid() {
		return strconv.Itoa(int(e.Port))
	}
	s := e.Address.String()
	if e.Protocol != 0 {
		s += "," + e.Protocol.Lower() + ":" + strconv.Itoa(int(e.Port))
	}
	switch {
	case !e.Source.IsValid():
		return s
	case e.Source.IsSingleIP():
		return s + "," + e.Source.Addr().String()
	}
	return s + "," + e.Source.String()
}

// ParseSetEntry reads what String wrote.
func ParseSetEntry(s string) (SetEntry, error) {
	set, member, ok := strings.Cut(s, " ")
	if !ok || set == "" {
		return SetEntry{}, fmt.Errorf("set entry %q has no set name and member", s)
	}
	e := SetEntry{Set: SetName(set)}
	if err := e.parseMember(member); err != nil {
		return SetEntry{}, fmt.Errorf("set entry %q: %w", s, err)
	}
	return e, nil
}

func (e *SetEntry) parseMember(member string) error {
	parts := strings.Split(member, ",")
	if len(parts) == 1 && !strings.ContainsAny(member, ".:") {
		return parsePort(member, &e.Port)
	}
	if len(parts) > 3 {
		return fmt.Errorf("%d parts, at most 3 known", len(parts))
	}
	address, err := parseAddr(parts[0])
	if err != nil {
		return err
	}
	e.Address = address
	if len(parts) > 1 {
		if err := e.parseProtocolPort(parts[1]); err != nil {
			return err
		}
	}
	if len(parts) > 2 {
		e.Source, err = parseSource(parts[2])
	}
	return err
}

func (e *SetEntry) parseProtocolPort(s string) error {
	protocol, port, ok := strings.Cut(s, ":")
	if !ok {
		return fmt.Errorf("%q is not protocol:port", s)
	}
	p, err := ParseProtocol(protocol)
	if err != nil {
		return err
	}
	e.Protocol = p
	return parsePort(port, &e.Port)
}

func parsePort(s string, port *uint16) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", s)
	}
	*port = uint16(n)
	return nil
}

func parseSource(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := parseAddr(s)
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p != p.Masked() { // the kernel keeps the masked one, which is another key
		return netip.Prefix{}, fmt.Errorf("source %q has bits behind its length", s)
	}
	return p, err
}

// A frontend of traffic policy Local has two groups of clients: those from outside get its endpoints on this node, and
// this node and its pods get all. IPVS has one virtual server for an address and port, so the second group is sent to
// another one, by destination NAT, before IPVS sees its packets. A rule of iptables can't take the new address from a
// set. But it can move all ports by the same number, so one rule does for all frontends at Service addresses. A
// frontend at an address of the node keeps its port, as the node's other ports are not ours to have, and moves to an
// address of its own.

// The port that PortShift of a rule names moves to FirstPort: the kernel counts from there
// (nf_nat_l4proto_unique_tuple, NF_NAT_RANGE_PROTO_OFFSET, since 4.18).
const (
	PortShift = 32768
	FirstPort = 1
	LastPort  = 65535
)

// InsidePort is the port of the virtual server that clients in the cluster get at a Service address in place of port p.
// The kernel counts modulo 2^16 first and then modulo the ports that there are, so 32767 and 32768 have the same.
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

// JoinedNetwork is where the virtual servers are that have one affinity over all ports of a Service: IPVS has that only
// for all ports of an address, which at the Service's own address are not ours to have. A rule can't take an address
// from a set, but it can put this network in place of the first bits of all (NETMAP). The IPv4 one is of the class that
// is not assigned (RFC 1112), the IPv6 one was drawn at random.
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

// LeadsTo is the virtual server to which an entry leads packets that were sent to another address and port, if it does.
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
