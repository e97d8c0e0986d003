// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func at(p state.Protocol, address string) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.MustParseAddrPort(address), Protocol: p}
}

func real(s state.VirtualServerKey, address string) state.RealServerKey {
	return state.RealServerKey{Server: s, Address: netip.MustParseAddrPort(address)}
}

func entry(text string) state.SetEntry {
	e, err := state.ParseSetEntry(text)
	if err != nil {
		panic(err)
	}
	return e
}

func bound(address string) state.Address { return state.Address{Addr: netip.MustParseAddr(address)} }

// claims is a small version of plan.ServerEntries: one set of addresses and one of node ports.
func claims(k state.VirtualServerKey) []state.SetEntry {
	if k.Mark != 0 {
		return nil
	}
	return []state.SetEntry{
		{Set: "KUBE-CLUSTER-IP", Address: k.Address.Addr(), Protocol: k.Protocol, Port: k.Address.Port()},
		{Set: state.SetName("KUBE-NODE-PORT-" + k.Protocol.String()), Port: k.Address.Port()},
	}
}

var (
	web      = at(state.TCP, "10.96.0.1:443")
	dns      = at(state.UDP, "10.96.0.10:53")
	node     = at(state.TCP, "172.16.0.5:30080")
	foreign  = at(state.SCTP, "10.200.0.1:80")
	sticky   = at(state.TCP, "[fd00::1]:443")
	marked   = state.MarkKey(state.IPv4, 256)
	marked6  = state.MarkKey(state.IPv6, 4294967295)
	webReal1 = real(web, "192.0.2.1:6443")
	webReal2 = real(web, "192.0.2.2:6443")
)

// sample returns a virtual server of every kind.
func sample() state.State {
	s := state.New()
	s.VirtualServers = map[state.VirtualServerKey]state.VirtualServer{
		web:     {Scheduler: "rr", Prefix: 32},
		dns:     {Scheduler: "wlc", Prefix: 24, Flags: state.Persistent | state.OnePacket, Timeout: 60, Engine: "sip"},
		node:    {Scheduler: "sh", Prefix: 32, Flags: state.Sched1 | state.Sched2},
		foreign: {Scheduler: "rr", Prefix: 32, Flags: state.Sched1 | state.Sched3},
		sticky:  {Scheduler: "mh", Prefix: 128, Flags: state.Persistent | state.Sched2, Timeout: 10800},
		marked:  {Scheduler: "lc", Prefix: 32},
		marked6: {Scheduler: "rr", Prefix: 64, Flags: state.Persistent, Timeout: 1},
	}
	s.RealServers = map[state.RealServerKey]state.RealServer{
		webReal1:                         {Weight: 1},
		webReal2:                         {Weight: 0},
		real(node, "10.244.1.5:8080"):    {Weight: 0},
		real(foreign, "10.244.1.6:80"):   {Weight: 65535, Method: state.Route, Upper: 100, Lower: 50},
		real(sticky, "[fd00:1::5]:8443"): {Weight: 3},
		real(marked, "10.244.1.7:0"):     {Weight: 1, Method: state.Tunnel},
	}
	s.Entries = map[state.SetEntry]state.Entry{
		entry("KUBE-CLUSTER-IP 10.96.0.1,tcp:443"): {Comment: "default/kubernetes:https"},
		entry("KUBE-CLUSTER-IP 10.96.0.10,udp:53"): {Comment: "kube-system/kube-dns:dns"},
		entry("KUBE-CLUSTER-IP 10.96.9.9,tcp:80"):  {Comment: "default/gone"},
		entry("KUBE-NODE-PORT-TCP 30080"):          {},
		entry("KUBE-NODE-PORT-TCP 443"):            {Comment: "default/other"},
		entry("KUBE-LOOP-BACK 10.0.0.1,tcp:1"):     {Comment: "not a claim"},
	}
	s.Addresses = map[state.Address]state.Binding{
		bound("10.96.0.1"): {}, bound("fd00::1"): {}, bound("10.96.8.8"): {},
	}
	return s
}

func observed() render.Observed {
	return render.Observed{
		Title:       "IP Virtual Server version 1.2.1 (size=4096)",
		Connections: map[state.RealServerKey]state.Connections{webReal1: {Active: 12, Inactive: 3, Persistent: 2}, webReal2: {Active: 1}},
		VirtualServers: map[state.VirtualServerKey]state.Counters{
			web: {
				Connections: 99_999_999, PacketsIn: 100_000_000, PacketsOut: 999_999_999, BytesIn: 1_000_000_000, BytesOut: 99_999_999_999,
			},
			dns: {
				Connections: 100_000_000_000, PacketsIn: 99_999_999_999_999, PacketsOut: 100_000_000_000_000, BytesIn: 1<<64 - 1,
				ConnectionRate: 5, PacketRateIn: 4, PacketRateOut: 3, ByteRateIn: 2, ByteRateOut: 1,
			},
		},
		RealServers: map[state.RealServerKey]state.Counters{webReal1: {Connections: 7, BytesOut: 123456789}},
	}
}

func view() render.View { return render.Join(sample(), observed(), claims) }

func equal(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			t.Errorf("line %d is missing: %q", i+1, w[i])
		case i >= len(w):
			t.Errorf("line %d is too much: %q", i+1, g[i])
		case g[i] != w[i]:
			t.Errorf("line %d is  %q\nwant %q", i+1, g[i], w[i])
		}
	}
}
