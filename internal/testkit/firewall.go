// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// firewall makes the rows of sets and rules as they are in one of the firewalls.
type firewall state.Firewall

func (w firewall) nftables() bool { return state.Firewall(w) == state.OnNFTables }

// named is a set's name.
func (w firewall) named(name string) state.SetName { return state.SetName(name).On(state.Firewall(w)) }

// set returns a name for each type and family. What the entries of a map lead to goes by the end of its name.
func (w firewall) set(f state.Family, kind state.SetType) state.SetName {
	if end := map[state.SetType]string{state.MapIPPortToPort: "INSIDE", state.MapIPPortToIP: "ALL-PORTS"}[kind]; end != "" {
		return w.named(fmt.Sprintf("KUBE-%d-%s", f, end))
	}
	return w.named(fmt.Sprintf("KUBE-%d-%s", f, strings.ToUpper(strings.NewReplacer(":", "-", ",", "-").Replace(string(kind)))))
}

// ports returns the set of ports that chains of a family can look into. An ipset of ports serves all families.
func (w firewall) ports(f state.Family) state.SetName {
	if w.nftables() {
		return w.set(f, state.BitmapPort)
	}
	return w.set(0, state.BitmapPort)
}

// rules is a table of rules.
func (w firewall) rules(t state.RuleTable) state.RuleTable { return t.On(state.Firewall(w)) }

// header returns a header of a type. A set of nftables has no other one of that type.
func (w firewall) header(f state.Family, kind state.SetType) state.Set {
	s := state.Set{Type: kind, Family: f, MaxElem: 1000, Comment: true, Marks: kind == state.HashIPPort}
	if kind == state.BitmapPort {
		s.Family, s.MaxElem = 0, 0
	}
	if w.nftables() {
		s.MaxElem, s.Marks = 0, false
	}
	return s
}

// otherHeader returns another header for a set of a type: in nftables one of another type.
func (w firewall) otherHeader(f state.Family, kind state.SetType) state.Set {
	if w.nftables() {
		types := w.types()
		return w.header(f, types[(slices.Index(types, kind)+1)%len(types)])
	}
	s := w.header(f, kind)
	s.Comment, s.Marks = false, false
	if s.MaxElem > 0 {
		s.MaxElem++
	}
	return s
}

func (w firewall) types() []state.SetType {
	types := []state.SetType{state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet, state.BitmapPort}
	if w.nftables() {
		types = append(types, state.MapIPPortToPort, state.MapIPPortToIP)
	}
	return types
}

func (w firewall) setTable() table[state.SetName, state.Set] {
	rows, other := map[state.SetName]state.Set{}, map[state.SetName]state.Set{}
	for _, f := range families() {
		for _, kind := range w.types() {
			n := w.set(f, kind)
			if kind == state.BitmapPort {
				n = w.ports(f)
			}
			rows[n], other[n] = w.header(f, kind), w.otherHeader(f, kind)
		}
	}
	return table[state.SetName, state.Set]{
		name:    "sets",
		store:   func(t kernel.Tables) kernel.Store[state.SetName, state.Set] { return t.Sets },
		compare: state.SetName.Compare,
		rows:    rows,
		other:   other,
		refused: w.refusedSets(),
	}
}

func (w firewall) refusedSets() map[state.SetName]state.Set {
	if !w.nftables() {
		return map[state.SetName]state.Set{
			"KUBE-NET":      {Type: "hash:net", Family: state.IPv4, MaxElem: 1},
			"KUBE-NONE":     {Type: state.HashIP, Family: state.IPv4},
			"KUBE-4-INSIDE": {Type: state.MapIPPortToPort, Family: state.IPv4, MaxElem: 1},
		}
	}
	return map[state.SetName]state.Set{
		w.named("KUBE-NET"):      {Type: "hash:net", Family: state.IPv4, Comment: true},
		w.named("KUBE-FEW"):      {Type: state.HashIP, Family: state.IPv4, MaxElem: 1, Comment: true},
		w.named("KUBE-SILENT"):   {Type: state.HashIP, Family: state.IPv4},
		w.named("KUBE-MARKS"):    {Type: state.HashIPPort, Family: state.IPv4, Comment: true, Marks: true},
		w.named("KUBE-FAMILY"):   {Type: state.HashIP, Family: state.IPv6, Comment: true},
		w.named("KUBE-6-FAMILY"): {Type: state.HashIP, Family: state.IPv4, Comment: true},
	}
}

// longestComment is how many bytes an entry of nftables can carry along.
const longestComment = 251

// entriesOf returns entries of every kind for one address.
func (w firewall) entriesOf(f state.Family) map[state.SetEntry]state.Entry {
	const n = 1
	a, bits := address(f, services, n), f.Bits()
	host, network := netip.PrefixFrom(a, bits), netip.PrefixFrom(address(f, endpoints, 0), bits-8)
	value := state.Entry{Comment: fmt.Sprintf("shop/web-%d:http", n)}
	marked := state.Entry{Comment: value.Comment, Mark: uint32(1 + n)}
	port := uint16(1 + n)
	if w.nftables() {
		marked.Mark = 0
	}
	rows := map[state.SetEntry]state.Entry{
		{Set: w.set(f, state.HashIP), Address: a}:                                                          value,
		{Set: w.set(f, state.HashIPPort), Address: a, Protocol: state.TCP, Port: port}:                     value,
		{Set: w.set(f, state.HashIPPort), Address: a, Protocol: state.UDP, Port: port}:                     marked,
		{Set: w.set(f, state.HashIPPort), Address: a, Protocol: state.SCTP, Port: port}:                    value,
		{Set: w.set(f, state.HashIPPort), Address: a, Protocol: state.TCP}:                                 value,
		{Set: w.set(f, state.HashIPPortIP), Address: a, Protocol: state.TCP, Port: port, Source: host}:     value,
		{Set: w.set(f, state.HashIPPortNet), Address: a, Protocol: state.TCP, Port: port, Source: network}: value,
		{Set: w.set(f, state.HashIPPortNet), Address: a, Protocol: state.TCP, Port: port, Source: host}:    value,
		{Set: w.ports(f), Port: port + 10_000*uint16(f)}:                                                   value,
	}
	if w.nftables() {
		rows[state.SetEntry{Set: w.set(f, state.HashIP), Address: address(f, services, 2)}] = state.Entry{Comment: strings.Repeat("x", longestComment)}
		all := netip.PrefixFrom(network.Addr(), 0).Masked()
		rows[state.SetEntry{Set: w.set(f, state.HashIPPortNet), Address: a, Protocol: state.UDP, Port: port, Source: all}] = value
		rows[state.SetEntry{Set: w.set(f, state.MapIPPortToPort), Address: a, Protocol: state.TCP, Port: port}] = value
		rows[state.SetEntry{Set: w.set(f, state.MapIPPortToIP), Address: a, Protocol: state.UDP, Port: port}] = value
	}
	return rows
}

func (w firewall) entryTable() table[state.SetEntry, state.Entry] {
	needs := state.New()
	needs.Sets = w.setTable().rows
	rows := with(w.entriesOf(state.IPv4), w.entriesOf(state.IPv6))
	other := map[state.SetEntry]state.Entry{}
	for k, v := range rows {
		other[k] = state.Entry{Comment: "shop/other", Mark: 2 * v.Mark}
	}
	dangling := map[state.SetEntry]state.Entry{}
	for k, v := range rows {
		k.Set = w.named("KUBE-NOWHERE")
		dangling[k] = v
	}
	t := table[state.SetEntry, state.Entry]{
		name:     "set entries",
		store:    func(t kernel.Tables) kernel.Store[state.SetEntry, state.Entry] { return t.Entries },
		compare:  state.SetEntry.Compare,
		needs:    needs,
		rows:     rows,
		other:    other,
		dangling: dangling,
	}
	w.refuseEntries(&t)
	return t
}

// refuseEntries adds entries that can't be, and a set for some of them.
func (w firewall) refuseEntries(t *table[state.SetEntry, state.Entry]) {
	v4, v6 := w.set(state.IPv4, state.HashIP), w.set(state.IPv6, state.HashIP)
	service := address(state.IPv4, services, 1)
	t.refused = map[state.SetEntry]state.Entry{
		{Set: v4, Address: address(state.IPv6, services, 1)}: {},
		{Set: v6, Address: address(state.IPv4, services, 1)}: {},
		{Set: v4, Address: address(state.IPv4, services, 5)}: {Comment: strings.Repeat("x", 256)},
		{Set: v6, Address: address(state.IPv6, services, 5)}: {Mark: 1}, // in a set without marks
	}
	if !w.nftables() {
		plain := w.named("KUBE-PLAIN")
		t.needs.Sets[plain] = state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 9}
		t.refused[state.SetEntry{Set: plain, Address: service}] = state.Entry{Comment: "in a set without comments"}
		t.refused[state.SetEntry{Set: w.set(state.IPv4, state.HashIPPortNet), Address: service, Protocol: state.TCP, Port: 1,
			Source: netip.MustParsePrefix("0.0.0.0/0")}] = state.Entry{}
		return
	}
	t.refused[state.SetEntry{Set: v4, Address: address(state.IPv4, services, 3)}] = state.Entry{Comment: strings.Repeat("x", longestComment+1)}
	maps.Copy(t.refused, map[state.SetEntry]state.Entry{
		{Set: w.set(state.IPv4, state.HashIPPort), Address: service}:                                      {}, // no port
		{Set: w.set(state.IPv4, state.HashIPPortNet), Address: service, Protocol: state.TCP}:              {}, // no source
		{Set: v4, Address: address(state.IPv4, services, 4), Source: netip.MustParsePrefix("1.2.3.4/32")}: {},
		{Set: w.set(state.IPv4, state.HashIPPortIP), Address: service, Protocol: state.TCP, Port: 1,
			Source: netip.MustParsePrefix("10.0.0.0/8")}: {},
		{Set: w.set(state.IPv4, state.HashIPPortNet), Address: service, Protocol: state.TCP, Port: 1,
			Source: netip.MustParsePrefix("10.0.0.1/8")}: {},
	})
}

// ruleTables returns two tables for each family: every changed table costs iptables a process, and three would show no
// more.
func (w firewall) ruleTables(f state.Family) []state.RuleTable {
	if f == state.IPv4 {
		return []state.RuleTable{w.rules(state.NAT), w.rules(state.Mangle)}
	}
	return []state.RuleTable{w.rules(state.NAT), w.rules(state.Filter)}
}

// chainsOf returns two chains in some tables. The first looks into a set and goes to the second.
func (w firewall) chainsOf(f state.Family) map[state.ChainKey]state.Chain {
	const first, second = "KUBE-A", "KUBE-B"
	chains := map[state.ChainKey]state.Chain{}
	for _, t := range w.ruleTables(f) {
		look := "-m set --match-set " + string(w.set(f, state.HashIP)) + " dst "
		chains[state.ChainKey{Family: f, Table: t, Name: first}] = state.ChainOf(
			"-p tcp "+look+"-j RETURN", `-m comment --comment "all the rest" -j `+second)
		chains[state.ChainKey{Family: f, Table: t, Name: second}] = state.ChainOf("-j MARK --set-xmark 0x4000/0x4000")
	}
	return chains
}

func (w firewall) hashSets() map[state.SetName]state.Set {
	sets := map[state.SetName]state.Set{}
	for _, f := range families() {
		header := w.header(f, state.HashIP)
		if header.MaxElem > 0 {
			header.MaxElem = 1 << 20
		}
		sets[w.set(f, state.HashIP)] = header
	}
	return sets
}

func (w firewall) chainTable() table[state.ChainKey, state.Chain] {
	needs := state.New()
	needs.Sets = w.hashSets()
	rows := with(w.chainsOf(state.IPv4), w.chainsOf(state.IPv6))
	t := table[state.ChainKey, state.Chain]{
		name:     "chains",
		store:    func(t kernel.Tables) kernel.Store[state.ChainKey, state.Chain] { return t.Chains },
		compare:  state.ChainKey.Compare,
		needs:    needs,
		rows:     rows,
		other:    map[state.ChainKey]state.Chain{},
		dangling: map[state.ChainKey]state.Chain{},
		refused:  map[state.ChainKey]state.Chain{},
	}
	for k := range rows {
		t.other[k] = state.Chain{}
		if k.Name == "KUBE-B" {
			t.other[k] = state.ChainOf("-p udp -j RETURN", "-j ACCEPT")
			continue
		}
		if w.nftables() {
			k.Name = "KUBE-A-STRANGE"
			t.refused[k] = state.ChainOf("-m statistic --mode random --probability 0.5 -j RETURN")
			k.Name = "KUBE-A-FAMILY"
			t.dangling[k] = state.ChainOf("-m set --match-set " + string(w.set(state.IPv4+state.IPv6-k.Family, state.HashIP)) + " dst -j RETURN")
		}
		k.Name = "KUBE-A-SET"
		t.dangling[k] = state.ChainOf("-j RETURN", "-m set --match-set "+string(w.named("KUBE-NOWHERE"))+" dst -j RETURN")
		k.Name = "KUBE-A-SET-CHAIN"
		t.dangling[k] = state.ChainOf("-j KUBE-NOWHERE")
	}
	return t
}

// jumpsOf returns jumps to a chain in some tables.
func (w firewall) jumpsOf(f state.Family, to string) map[state.JumpKey]state.Jump {
	from := map[state.RuleTable][]string{
		state.NAT:    {"PREROUTING", "POSTROUTING"},
		state.Filter: {"INPUT", "FORWARD"},
		state.Mangle: {"OUTPUT", "POSTROUTING"},
	}
	jumps := map[state.JumpKey]state.Jump{}
	for _, t := range w.ruleTables(f) {
		for _, chain := range from[t.Bare()] {
			jumps[state.JumpKey{Family: f, Table: t, From: chain, To: to}] = state.Jump{Rule: `-m comment --comment "from ours" -j ` + to}
		}
	}
	return jumps
}

func (w firewall) jumpTable() table[state.JumpKey, state.Jump] {
	needs := state.New()
	needs.Sets = w.hashSets()
	needs.Chains = with(w.chainsOf(state.IPv4), w.chainsOf(state.IPv6))
	rows := with(w.jumpsOf(state.IPv4, "KUBE-A"), w.jumpsOf(state.IPv6, "KUBE-A"))
	other, refused := map[state.JumpKey]state.Jump{}, map[state.JumpKey]state.Jump{}
	for k := range rows {
		other[k] = state.Jump{Rule: "-p tcp -j " + k.To}
		refused[state.JumpKey{Family: k.Family, Table: k.Table, From: "KUBE-A", To: "KUBE-B"}] = state.Jump{Rule: "-j KUBE-B"}
		refused[state.JumpKey{Family: k.Family, Table: k.Table, From: k.From, To: "KUBE-B"}] = state.Jump{Rule: "-j KUBE-A"}
	}
	return table[state.JumpKey, state.Jump]{
		name:     "jumps",
		store:    func(t kernel.Tables) kernel.Store[state.JumpKey, state.Jump] { return t.Jumps },
		compare:  state.JumpKey.Compare,
		needs:    needs,
		rows:     rows,
		other:    other,
		dangling: with(w.jumpsOf(state.IPv4, "KUBE-NOWHERE"), w.jumpsOf(state.IPv6, "KUBE-NOWHERE")),
		refused:  refused,
	}
}
