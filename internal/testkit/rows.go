// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The rows that the contract is tried with.

func families() []state.Family { return []state.Family{state.IPv4, state.IPv6} }

// address returns the n-th address of a family in the given network.
func address(f state.Family, network byte, n int) netip.Addr {
	if f == state.IPv4 {
		return netip.AddrFrom4([4]byte{10, network, byte(n >> 8), byte(n)})
	}
	return netip.AddrFrom16([16]byte{0xfd, 0, 13: network, 14: byte(n >> 8), 15: byte(n)})
}

const (
	services  byte = 96
	endpoints byte = 244
	nodes     byte = 1
)

// setName returns a name for each type and family.
func setName(f state.Family, kind state.SetType) state.SetName {
	return state.SetName(fmt.Sprintf("KUBE-%d-%s", f, strings.ToUpper(strings.NewReplacer(":", "-", ",", "-").Replace(string(kind)))))
}

func setTable() table[state.SetName, state.Set] {
	rows, other := map[state.SetName]state.Set{}, map[state.SetName]state.Set{}
	for _, f := range families() {
		for _, kind := range []state.SetType{state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet} {
			rows[setName(f, kind)] = state.Set{Type: kind, Family: f, MaxElem: 1000, Comment: true, Marks: kind == state.HashIPPort}
			other[setName(f, kind)] = state.Set{Type: kind, Family: f, MaxElem: 1001}
		}
	}
	rows[setName(0, state.BitmapPort)] = state.Set{Type: state.BitmapPort, Comment: true}
	other[setName(0, state.BitmapPort)] = state.Set{Type: state.BitmapPort}
	return table[state.SetName, state.Set]{
		name:    "sets",
		store:   func(t kernel.Tables) kernel.Store[state.SetName, state.Set] { return t.Sets },
		compare: state.SetName.Compare,
		rows:    rows,
		other:   other,
		refused: map[state.SetName]state.Set{
			"KUBE-NET":  {Type: "hash:net", Family: state.IPv4, MaxElem: 1},
			"KUBE-NONE": {Type: state.HashIP, Family: state.IPv4},
		},
	}
}

// entriesOf returns entries of every kind for one address.
func entriesOf(f state.Family) map[state.SetEntry]state.Entry {
	const n = 1
	a, bits := address(f, services, n), f.Bits()
	host, network := netip.PrefixFrom(a, bits), netip.PrefixFrom(address(f, endpoints, 0), bits-8)
	value := state.Entry{Comment: fmt.Sprintf("shop/web-%d:http", n)}
	marked := state.Entry{Comment: value.Comment, Mark: uint32(1 + n)}
	port := uint16(1 + n)
	return map[state.SetEntry]state.Entry{
		{Set: setName(f, state.HashIP), Address: a}:                                                          value,
		{Set: setName(f, state.HashIPPort), Address: a, Protocol: state.TCP, Port: port}:                     value,
		{Set: setName(f, state.HashIPPort), Address: a, Protocol: state.UDP, Port: port}:                     marked,
		{Set: setName(f, state.HashIPPort), Address: a, Protocol: state.SCTP, Port: port}:                    value,
		{Set: setName(f, state.HashIPPort), Address: a, Protocol: state.TCP}:                                 value,
		{Set: setName(f, state.HashIPPortIP), Address: a, Protocol: state.TCP, Port: port, Source: host}:     value,
		{Set: setName(f, state.HashIPPortNet), Address: a, Protocol: state.TCP, Port: port, Source: network}: value,
		{Set: setName(f, state.HashIPPortNet), Address: a, Protocol: state.TCP, Port: port, Source: host}:    value,
		{Set: setName(0, state.BitmapPort), Port: port + 10_000*uint16(f)}:                                   value,
	}
}

func entryTable() table[state.SetEntry, state.Entry] {
	needs := state.New()
	needs.Sets = setTable().rows
	plain := state.SetName("KUBE-PLAIN")
	needs.Sets[plain] = state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 9}
	rows := with(entriesOf(state.IPv4), entriesOf(state.IPv6))
	other := map[state.SetEntry]state.Entry{}
	for k, v := range rows {
		other[k] = state.Entry{Comment: "shop/other", Mark: 2 * v.Mark}
	}
	dangling := map[state.SetEntry]state.Entry{}
	for k, v := range rows {
		k.Set = "KUBE-NOWHERE"
		dangling[k] = v
	}
	v4, v6 := setName(state.IPv4, state.HashIP), setName(state.IPv6, state.HashIP)
	return table[state.SetEntry, state.Entry]{
		name:     "set entries",
		store:    func(t kernel.Tables) kernel.Store[state.SetEntry, state.Entry] { return t.Entries },
		compare:  state.SetEntry.Compare,
		needs:    needs,
		rows:     rows,
		other:    other,
		dangling: dangling,
		refused: map[state.SetEntry]state.Entry{
			{Set: v4, Address: address(state.IPv6, services, 1)}:    {},
			{Set: v6, Address: address(state.IPv4, services, 1)}:    {},
			{Set: v4, Address: address(state.IPv4, services, 2)}:    {Comment: strings.Repeat("x", 256)},
			{Set: plain, Address: address(state.IPv4, services, 1)}: {Comment: "in a set without comments"},
			{Set: v6, Address: address(state.IPv6, services, 2)}:    {Mark: 1}, // in a set without marks
			{Set: setName(state.IPv4, state.HashIPPortNet), Address: address(state.IPv4, services, 1), Protocol: state.TCP,
				Port: 1, Source: netip.MustParsePrefix("0.0.0.0/0")}: {},
		},
	}
}

// ruleTables returns two tables for each family: every changed table costs the real kernel a process, and three would
// show no more.
func ruleTables(f state.Family) []state.RuleTable {
	if f == state.IPv4 {
		return []state.RuleTable{state.NAT, state.Mangle}
	}
	return []state.RuleTable{state.NAT, state.Filter}
}

// chainsOf returns two chains in some tables. The first looks into a set and goes to the second.
func chainsOf(f state.Family) map[state.ChainKey]state.Chain {
	const first, second = "KUBE-A", "KUBE-B"
	chains := map[state.ChainKey]state.Chain{}
	for _, t := range ruleTables(f) {
		look := "-m set --match-set " + string(setName(f, state.HashIP)) + " dst "
		chains[state.ChainKey{Family: f, Table: t, Name: first}] = state.ChainOf(
			"-p tcp "+look+"-j RETURN", `-m comment --comment "all the rest" -j `+second)
		chains[state.ChainKey{Family: f, Table: t, Name: second}] = state.ChainOf("-j MARK --set-xmark 0x4000/0x4000")
	}
	return chains
}

func hashSets() map[state.SetName]state.Set {
	sets := map[state.SetName]state.Set{}
	for _, f := range families() {
		sets[setName(f, state.HashIP)] = state.Set{Type: state.HashIP, Family: f, MaxElem: 1 << 20, Comment: true}
	}
	return sets
}

func chainTable() table[state.ChainKey, state.Chain] {
	needs := state.New()
	needs.Sets = hashSets()
	rows := with(chainsOf(state.IPv4), chainsOf(state.IPv6))
	other, dangling := map[state.ChainKey]state.Chain{}, map[state.ChainKey]state.Chain{}
	for k := range rows {
		other[k] = state.Chain{}
		if k.Name == "KUBE-B" {
			other[k] = state.ChainOf("-p udp -j RETURN", "-j ACCEPT")
			continue
		}
		k.Name += "-SET"
		dangling[k] = state.ChainOf("-j RETURN", "-m set --match-set KUBE-NOWHERE dst -j RETURN")
		k.Name += "-CHAIN"
		dangling[k] = state.ChainOf("-j KUBE-NOWHERE")
	}
	return table[state.ChainKey, state.Chain]{
		name:     "chains",
		store:    func(t kernel.Tables) kernel.Store[state.ChainKey, state.Chain] { return t.Chains },
		compare:  state.ChainKey.Compare,
		needs:    needs,
		rows:     rows,
		other:    other,
		dangling: dangling,
	}
}

// jumpsOf returns jumps to a chain in some tables.
func jumpsOf(f state.Family, to string) map[state.JumpKey]state.Jump {
	from := map[state.RuleTable][]string{
		state.NAT:    {"PREROUTING", "POSTROUTING"},
		state.Filter: {"INPUT", "FORWARD"},
		state.Mangle: {"OUTPUT", "POSTROUTING"},
	}
	jumps := map[state.JumpKey]state.Jump{}
	for _, t := range ruleTables(f) {
		for _, chain := range from[t] {
			jumps[state.JumpKey{Family: f, Table: t, From: chain, To: to}] = state.Jump{Rule: `-m comment --comment "from ours" -j ` + to}
		}
	}
	return jumps
}

func jumpTable() table[state.JumpKey, state.Jump] {
	needs := state.New()
	needs.Sets = hashSets()
	needs.Chains = with(chainsOf(state.IPv4), chainsOf(state.IPv6))
	rows := with(jumpsOf(state.IPv4, "KUBE-A"), jumpsOf(state.IPv6, "KUBE-A"))
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
		dangling: with(jumpsOf(state.IPv4, "KUBE-NOWHERE"), jumpsOf(state.IPv6, "KUBE-NOWHERE")),
		refused:  refused,
	}
}

func links() map[state.LinkName]state.Link {
	return map[state.LinkName]state.Link{state.DummyLink: {Kind: "dummy"}}
}

func linkTable() table[state.LinkName, state.Link] {
	return table[state.LinkName, state.Link]{
		name:    "links",
		store:   func(t kernel.Tables) kernel.Store[state.LinkName, state.Link] { return t.Links },
		compare: state.LinkName.Compare,
		rows:    links(),
		other:   links(),
		refused: map[state.LinkName]state.Link{"kube-ipvs1": {Kind: "dummy"}, "kube-ipvs2": {Kind: "veth"}},
	}
}

func server(f state.Family, n int, p state.Protocol) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.AddrPortFrom(address(f, services, n), uint16(1+n%60_000)), Protocol: p}
}

// serversOf returns virtual servers of every kind.
func serversOf(f state.Family) map[state.VirtualServerKey]state.VirtualServer {
	bits := uint8(f.Bits())
	plain := state.VirtualServer{Scheduler: "rr", Prefix: bits}
	sticky := state.VirtualServer{Scheduler: "mh", Flags: state.Persistent | state.Sched2, Timeout: 10_800, Prefix: bits}
	return map[state.VirtualServerKey]state.VirtualServer{
		server(f, 1, state.TCP):  plain,
		server(f, 1, state.UDP):  sticky,
		server(f, 1, state.SCTP): plain,
		state.MarkKey(f, 256):    sticky,

		// All ports of an address. The kernel serves these only if they are persistent.
		{Address: netip.AddrPortFrom(address(f, services, 3), 0), Protocol: state.TCP}: sticky,
	}
}

func virtualServerTable() table[state.VirtualServerKey, state.VirtualServer] {
	rows := with(serversOf(state.IPv4), serversOf(state.IPv6))
	other, dangling := map[state.VirtualServerKey]state.VirtualServer{}, map[state.VirtualServerKey]state.VirtualServer{}
	for k, v := range rows {
		other[k] = state.VirtualServer{Scheduler: "wlc", Prefix: v.Prefix}
		if v.Flags == 0 {
			other[k] = state.VirtualServer{Scheduler: "sh", Flags: state.Persistent | state.Sched1, Timeout: 60, Prefix: 20}
		}
	}
	for _, f := range families() {
		dangling[server(f, 2, state.TCP)] = state.VirtualServer{Scheduler: "nonesuch", Prefix: uint8(f.Bits())}
	}
	return table[state.VirtualServerKey, state.VirtualServer]{
		name: "virtual servers",
		store: func(t kernel.Tables) kernel.Store[state.VirtualServerKey, state.VirtualServer] {
			return t.VirtualServers
		},
		compare:  state.VirtualServerKey.Compare,
		rows:     rows,
		other:    other,
		dangling: dangling,
	}
}

// realServersOf returns two real servers for each virtual server.
func realServersOf(servers map[state.VirtualServerKey]state.VirtualServer) map[state.RealServerKey]state.RealServer {
	rows := map[state.RealServerKey]state.RealServer{}
	for k := range servers {
		for n := range 2 {
			rows[state.RealServerKey{Server: k, Address: netip.AddrPortFrom(address(k.Family(), endpoints, n), 8080)}] =
				state.RealServer{Weight: uint32(1 + n), Method: state.Masquerade}
		}
	}
	return rows
}

func realServerTable() table[state.RealServerKey, state.RealServer] {
	needs := state.New()
	needs.VirtualServers = virtualServerTable().rows
	rows := realServersOf(needs.VirtualServers)
	other, refused := map[state.RealServerKey]state.RealServer{}, map[state.RealServerKey]state.RealServer{}
	for k, v := range rows {
		other[k] = state.RealServer{Weight: 2 - v.Weight, Method: state.Route}
		wrong := state.IPv4 + state.IPv6 - k.Server.Family()
		k.Address = netip.AddrPortFrom(address(wrong, endpoints, 1), 8080)
		refused[k] = v
	}
	absent := map[state.VirtualServerKey]state.VirtualServer{}
	for k, v := range needs.VirtualServers {
		k.Mark += k.Mark
		if k.Mark == 0 {
			k.Address = netip.AddrPortFrom(k.Address.Addr(), 9)
		}
		absent[k] = v
	}
	return table[state.RealServerKey, state.RealServer]{
		name:     "real servers",
		store:    func(t kernel.Tables) kernel.Store[state.RealServerKey, state.RealServer] { return t.RealServers },
		compare:  state.RealServerKey.Compare,
		needs:    needs,
		rows:     rows,
		other:    other,
		dangling: realServersOf(absent),
		refused:  refused,
	}
}

// Sources returns addresses that the node has, two of each family. Routes may use them as the source of the node's own
// packets.
func Sources() []netip.Addr {
	var list []netip.Addr
	for _, f := range families() {
		list = append(list, source(f, 1), source(f, 2))
	}
	return list
}

func source(f state.Family, n int) netip.Addr { return address(f, nodes, n) }

func addressTable() table[state.Address, state.Binding] {
	needs := state.New()
	maps.Copy(needs.Links, links())
	rows, other := map[state.Address]state.Binding{}, map[state.Address]state.Binding{}
	for _, f := range families() {
		for n, b := range [][2]state.Binding{
			{{}, {}},
			{{Means: state.Routed}, {Means: state.Routed, Source: source(f, 1)}},
			{{Means: state.Routed, Source: source(f, 1)}, {Means: state.Routed, Source: source(f, 2)}},
			{{}, {Means: state.Routed, Source: source(f, 2)}},
			{{Means: state.Routed, Source: source(f, 2)}, {}},
			{{Means: state.Routed}, {}},
		} {
			a := state.Address{Addr: address(f, services, 1+n)}
			rows[a], other[a] = b[0], b[1]
		}
	}
	for n, b := range [][2]state.Binding{ // of IPv4 only
		{{MTU: 1500}, {}},
		{{}, {MTU: 1500}},
		{{MTU: 1500}, {MTU: 9001}},
		{{MTU: 1500}, {Means: state.Routed}},
		{{Means: state.Routed}, {MTU: 1500}},
		{{MTU: 1500}, {Means: state.Routed, MTU: 1400}},
		{{Means: state.Routed, Source: source(state.IPv4, 1), MTU: 1500}, {Means: state.Routed, Source: source(state.IPv4, 1), MTU: 1400}},
		{{Means: state.Routed, MTU: 1500}, {Means: state.Routed}},
	} {
		a := state.Address{Addr: address(state.IPv4, services, 20+n)}
		rows[a], other[a] = b[0], b[1]
	}
	return table[state.Address, state.Binding]{
		name:    "addresses",
		store:   func(t kernel.Tables) kernel.Store[state.Address, state.Binding] { return t.Addresses },
		compare: state.Address.Compare,
		needs:   needs,
		rows:    rows,
		other:   other,
		refused: map[state.Address]state.Binding{{Addr: netip.MustParseAddr("ff02::1")}: {}},
	}
}
