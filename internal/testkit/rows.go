// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"maps"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The rows that the contract is tried with, but for those of firewall.go.

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
