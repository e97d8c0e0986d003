// SPDX-License-Identifier: Apache-2.0

// Package render writes a State as text, and reads it again. It has two halves.
//
// For people, Join makes a View of the rows and of what the kernel counts, and Text, Wide, JSON, YAML and Save write
// it. For machines, tests and logs, State writes all tables exactly and ParseState reads them.
//
// The package is pure, and does not judge rows. Package trace computes what they do with a packet.
package render

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Observed is what the kernel reports besides its rows. nil: not read.
type Observed struct {
	Title          string // the first line of /proc/net/ip_vs: IPVS' version and the size of its connection table
	Connections    map[state.RealServerKey]state.Connections
	VirtualServers map[state.VirtualServerKey]state.Counters
	RealServers    map[state.RealServerKey]state.Counters
	Limits         map[state.RealServerKey]Limits // for rows from sources that do not show them
}

// Limits are the connection limits of a state.RealServer.
type Limits struct{ Upper, Lower uint32 }

// View is the kernel's rows, joined for people and in ipvsadm's order.
type View struct {
	Title          string
	VirtualServers []VirtualServer
	Unserved       Unserved
}

// VirtualServer is a virtual server with its real servers.
type VirtualServer struct {
	Key         state.VirtualServerKey
	Row         state.VirtualServer
	Owner       Owner
	Bound       Answer // is the address on the dummy device, or routed to it?
	Binding     state.Binding
	Counters    state.Counters
	RealServers []RealServer
}

// RealServer is a real server of a VirtualServer.
type RealServer struct {
	Address     netip.AddrPort
	Row         state.RealServer
	Connections state.Connections
	Counters    state.Counters
}

// Owner is whose a virtual server is, by the sets.
type Owner struct {
	Ours    Answer        // whether a set of ours has it
	Set     state.SetName // which one
	Service string        // the entry's comment; empty in sets that kube-proxy made
}

// String returns the Service port, "-" for a virtual server that is not ours, and "?" for an unknown Service.
func (o Owner) String() string {
	switch {
	case o.Service != "":
		return o.Service
	case o.Ours == No:
		return "-"
	}
	return "?"
}

// Answer is yes or no, if that is known.
type Answer uint8

// The answers.
const (
	Unknown Answer = iota // the table was not read
	No
	Yes
	Pointless // a mark has no address, and a node port that of the node
)

// String returns one word, or a sign.
func (a Answer) String() string {
	return [...]string{Unknown: "?", No: "no", Yes: "yes", Pointless: "-"}[a]
}

// Unserved are rows that steer or attract packets without a virtual server: leftovers, or signs of a missing one.
type Unserved struct {
	Entries   []Entry
	Addresses []state.Address
}

// Entry is an entry of a set and its comment.
type Entry struct {
	Key     state.SetEntry
	Comment string
}

// Claims returns the set entries any of which proves a virtual server ours. One without an address knows only the port;
// it proves only addresses of the node, not those on the dummy device.
type Claims func(state.VirtualServerKey) []state.SetEntry

// nodePort is in the names of sets that claim addresses of the node.
const nodePort = "-NODE-PORT-"

// Join joins the rows of s. A nil table was not read: what follows from it is Unknown.
func Join(s state.State, seen Observed, claims Claims) View {
	v := View{Title: seen.Title, VirtualServers: make([]VirtualServer, 0, len(s.VirtualServers))}
	realServers, marked := joinRealServers(s, seen), markOwners(s)
	for k, row := range s.VirtualServers {
		o, b := owner(s, k, claims(k)), bound(s, k)
		if k.Mark != 0 {
			o = marked[k]
		}
		if b == No && strings.Contains(string(o.Set), nodePort) {
			b = Pointless
		}
		v.VirtualServers = append(v.VirtualServers, VirtualServer{
			Key:         k,
			Row:         row,
			Owner:       o,
			Bound:       b,
			Binding:     s.Addresses[state.Address{Addr: k.Address.Addr()}],
			Counters:    seen.VirtualServers[k],
			RealServers: realServers[k],
		})
	}
	slices.SortFunc(v.VirtualServers, func(a, b VirtualServer) int { return order(a.Key, b.Key) })
	if s.VirtualServers != nil {
		v.Unserved = unserved(s, claims)
	}
	return v
}

// order compares as ipvsadm's listings do: mark (none first), family, protocol, address, port. ipvsadm's own
// subtraction overflows, and changes its order, where marks or addresses are 2^31 or more apart.
func order(a, b state.VirtualServerKey) int {
	return cmp.Or(
		cmp.Compare(a.Mark, b.Mark),
		cmp.Compare(a.Family(), b.Family()),
		cmp.Compare(a.Protocol, b.Protocol),
		a.Address.Compare(b.Address),
	)
}

func joinRealServers(s state.State, seen Observed) map[state.VirtualServerKey][]RealServer {
	joined := make(map[state.VirtualServerKey][]RealServer, len(s.VirtualServers))
	for k, row := range s.RealServers {
		if l, ok := seen.Limits[k]; ok {
			row.Upper, row.Lower = l.Upper, l.Lower
		}
		joined[k.Server] = append(joined[k.Server], RealServer{
			Address:     k.Address,
			Row:         row,
			Connections: seen.Connections[k],
			Counters:    seen.RealServers[k],
		})
	}
	for _, list := range joined {
		slices.SortFunc(list, func(a, b RealServer) int { return a.Address.Compare(b.Address) })
	}
	return joined
}

func owner(s state.State, k state.VirtualServerKey, claims []state.SetEntry) Owner {
	if s.Entries == nil || k.Mark != 0 {
		return Owner{}
	}
	found := Owner{Ours: No}
	for _, e := range claims {
		row, ok := s.Entries[e]
		if !ok || !e.Address.IsValid() && bound(s, k) == Yes {
			continue
		}
		if found.Ours == No || found.Service == "" {
			found = Owner{Ours: Yes, Set: e.Set, Service: row.Comment}
		}
	}
	return found
}

// markOwners returns the owners of virtual servers to which set entries lead packets by a mark. Several entries are the
// frontends of one Service port; the first counts.
func markOwners(s state.State) map[state.VirtualServerKey]Owner {
	first := map[state.VirtualServerKey]state.SetEntry{}
	for e, row := range s.Entries {
		if row.Mark == 0 {
			continue
		}
		k := state.MarkKey(state.FamilyOf(e.Address), row.Mark)
		if known, ok := first[k]; !ok || e.Compare(known) < 0 {
			first[k] = e
		}
	}
	owners := map[state.VirtualServerKey]Owner{}
	for k, e := range first {
		owners[k] = Owner{Ours: Yes, Set: e.Set, Service: s.Entries[e].Comment}
	}
	return owners
}

func bound(s state.State, k state.VirtualServerKey) Answer {
	switch {
	case k.Mark != 0:
		return Pointless
	case s.Addresses == nil:
		return Unknown
	}
	if _, ok := s.Addresses[state.Address{Addr: k.Address.Addr()}]; ok {
		return Yes
	}
	return No
}

func unserved(s state.State, claims Claims) Unserved {
	served := map[state.SetEntry]bool{}
	addresses := map[state.Address]bool{}
	for k := range s.VirtualServers {
		addresses[state.Address{Addr: k.Address.Addr()}] = true
		for _, e := range claims(k) {
			served[e] = true
		}
	}
	sets := claimSets(claims)
	var u Unserved
	for e, row := range s.Entries {
		if sets[e.Set] && !served[e] {
			u.Entries = append(u.Entries, Entry{e, row.Comment})
		}
	}
	for a := range s.Addresses {
		if !addresses[a] {
			u.Addresses = append(u.Addresses, a)
		}
	}
	slices.SortFunc(u.Entries, func(a, b Entry) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(u.Addresses, state.Address.Compare)
	return u
}

// claimSets returns the sets whose entries claim virtual servers.
func claimSets(claims Claims) map[state.SetName]bool {
	sets := map[state.SetName]bool{}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		for _, p := range []state.Protocol{state.TCP, state.UDP, state.SCTP} {
			k := state.VirtualServerKey{Address: netip.AddrPortFrom(f.Unspecified(), 1), Protocol: p}
			for _, e := range claims(k) {
				sets[e.Set] = true
			}
		}
	}
	return sets
}

// Filter selects virtual servers. All its fields that are not zero must match.
type Filter struct {
	Namespace, Name, PortName string // of the Service
	Protocol                  state.Protocol

	Address netip.Addr // of a virtual server, or of one of its real servers
	Port    uint16     // together with Address
}

// Only returns the part of v that matches f.
func (v View) Only(f Filter) View {
	only := View{Title: v.Title}
	for _, s := range v.VirtualServers {
		if f.matches(s) {
			only.VirtualServers = append(only.VirtualServers, s)
		}
	}
	for _, e := range v.Unserved.Entries {
		if f.service(e.Comment) && f.entry(e.Key) {
			only.Unserved.Entries = append(only.Unserved.Entries, e)
		}
	}
	for _, a := range v.Unserved.Addresses {
		if f.onlyAddress() && f.address(netip.AddrPortFrom(a.Addr, f.Port)) {
			only.Unserved.Addresses = append(only.Unserved.Addresses, a)
		}
	}
	return only
}

// Empty reports whether v has nothing.
func (v View) Empty() bool {
	return len(v.VirtualServers)+len(v.Unserved.Entries)+len(v.Unserved.Addresses) == 0
}

func (f Filter) matches(s VirtualServer) bool {
	there := s.Key.Mark == 0 && f.address(s.Key.Address) ||
		slices.ContainsFunc(s.RealServers, func(r RealServer) bool { return f.address(r.Address) })
	return f.service(s.Owner.Service) &&
		(f.Protocol == 0 || f.Protocol == s.Key.Protocol) &&
		(there || !f.Address.IsValid())
}

func (f Filter) entry(e state.SetEntry) bool {
	return (f.Protocol == 0 || f.Protocol == e.Protocol) &&
		(!f.Address.IsValid() || f.address(netip.AddrPortFrom(e.Address, e.Port)))
}

func (f Filter) address(a netip.AddrPort) bool {
	return (!f.Address.IsValid() || f.Address == a.Addr()) && (f.Port == 0 || f.Port == a.Port())
}

func (f Filter) onlyAddress() bool {
	f.Address, f.Port = netip.Addr{}, 0
	return f == Filter{}
}

// service matches the comment of a set entry: "namespace/name:port".
func (f Filter) service(comment string) bool {
	namespace, rest, _ := strings.Cut(comment, "/")
	name, port, _ := strings.Cut(rest, ":")
	return (f.Namespace == "" || f.Namespace == namespace) &&
		(f.Name == "" || f.Name == name) &&
		(f.PortName == "" || f.PortName == port)
}
