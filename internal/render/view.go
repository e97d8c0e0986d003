// SPDX-License-Identifier: Apache-2.0

// Package render is a State as text and back. It has two halves.
//
// For people: Join makes a View of the rows and of what the kernel counts, and Text, Wide, JSON, YAML and
// Save write it. For machines, tests and logs: State writes all tables exactly and ParseState reads them.
//
// The package is pure: it reads no kernel, and it judges no row. What a packet meets is package trace's
// business.
package render

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Observed is what the kernel says beside its rows. Whatever was not asked for is nil.
type Observed struct {
	// Title is the first line of /proc/net/ip_vs: the version of IPVS and the size of its connection table.
	Title string

	Connections    map[state.RealServerKey]state.Connections
	VirtualServers map[state.VirtualServerKey]state.Counters
	RealServers    map[state.RealServerKey]state.Counters

	// Limits are the real servers' connection limits, for rows that were read from where the kernel does not
	// show them.
	Limits map[state.RealServerKey]Limits
}

// Limits are the connection limits of a state.RealServer.
type Limits struct{ Upper, Lower uint32 }

// View is what is in the kernel, joined for people and in ipvsadm's order.
type View struct {
	Title          string
	VirtualServers []VirtualServer
	Unserved       Unserved
}

// VirtualServer is a virtual server and all that belongs to it.
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

// Owner is what the sets say about whose a virtual server is.
type Owner struct {
	Ours    Answer        // does a set of ours hold it?
	Set     state.SetName // which one
	Service string        // the entry's comment; empty in sets that kube-proxy made
}

// String is the Service port, "-" for a virtual server that is not ours, and "?" for one whose Service the
// kernel does not tell.
func (o Owner) String() string {
	switch {
	case o.Service != "":
		return o.Service
	case o.Ours == No:
		return "-"
	}
	return "?"
}

// Answer is the answer to a question that can't always be asked.
type Answer uint8

// The answers.
const (
	Unknown Answer = iota // the table was not read
	No
	Yes
	Pointless // a mark has no address, and a node port that of the node
)

// String is one word, or a sign.
func (a Answer) String() string {
	switch a {
	case No:
		return "no"
	case Yes:
		return "yes"
	case Pointless:
		return "-"
	}
	return "?"
}

// Unserved is what steers or attracts packets for which no virtual server is there: what is left over, or
// what is missing.
type Unserved struct {
	Entries   []Entry
	Addresses []state.Address
}

// Entry is an entry of a set and its comment.
type Entry struct {
	Key     state.SetEntry
	Comment string
}

// Claims are the set entries of which one in the kernel is enough to say that a virtual server is ours. One
// without an address knows only the port; it speaks for addresses of the node, not for those on the dummy
// device.
type Claims func(state.VirtualServerKey) []state.SetEntry

// nodePort is in the names of the sets that claim addresses of the node.
const nodePort = "-NODE-PORT-"

// Join joins the rows of s. A table of s that is nil was not read: what would follow from it is Unknown.
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

// order is that of ipvsadm's listings: by mark, with those without one first, family, protocol, address,
// port. Where two marks or addresses are 2^31 or more apart, ipvsadm's own subtraction overflows, and its
// order with it.
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

// markOwners are those of the virtual servers to which set entries lead packets by a mark. The first entry of
// several, the frontends of one Service port, speaks.
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

// claimSets are the sets whose entries claim virtual servers.
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
