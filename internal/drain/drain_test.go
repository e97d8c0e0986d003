// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var (
	server = state.VirtualServerKey{Address: netip.MustParseAddrPort("10.96.0.1:80"), Protocol: state.TCP}
	first  = state.RealServerKey{Server: server, Address: netip.MustParseAddrPort("10.244.0.1:8080")}
	second = state.RealServerKey{Server: server, Address: netip.MustParseAddrPort("10.244.0.2:8080")}
	start  = time.Unix(0, 0)
)

func TestARealServerLeavesWhenItsConnectionsAreGoneOrItsDeadlineHasPassed(t *testing.T) {
	cases := []struct {
		name        string
		connections map[state.RealServerKey]state.Connections
		after       time.Duration
		want        []state.RealServerKey
	}{
		{"not seen", nil, time.Second, nil},
		{"no connections", map[state.RealServerKey]state.Connections{first: {}, second: {}}, time.Second, []state.RealServerKey{first, second}},
		{"active", map[state.RealServerKey]state.Connections{first: {Active: 1}, second: {}}, time.Second, []state.RealServerKey{second}},
		{"closing", map[state.RealServerKey]state.Connections{first: {Inactive: 1}, second: {}}, time.Second, []state.RealServerKey{second}},
		{"just before the deadline", map[state.RealServerKey]state.Connections{first: {Active: 1}, second: {Active: 1}}, time.Minute - 1, nil},
		{"at the deadline", map[state.RealServerKey]state.Connections{first: {Active: 1}, second: {Active: 1}}, time.Minute, []state.RealServerKey{first, second}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var b Book
			b.Begin(first, start.Add(time.Minute))
			b.Begin(second, start.Add(time.Minute))
			got := b.Finish(tc.connections, start.Add(tc.after))
			slices.SortFunc(got, state.RealServerKey.Compare)
			if !slices.Equal(got, tc.want) {
				t.Errorf("finished %v, want %v", got, tc.want)
			}
			if b.Len() != 2-len(tc.want) {
				t.Errorf("%d still listed, want %d", b.Len(), 2-len(tc.want))
			}
		})
	}
}

func TestBeginningAgainKeepsTheDeadline(t *testing.T) {
	var b Book
	b.Begin(first, start.Add(time.Minute))
	b.Begin(first, start.Add(time.Hour))
	busy := map[state.RealServerKey]state.Connections{first: {Active: 1}}
	if got := b.Finish(busy, start.Add(time.Minute)); len(got) != 1 {
		t.Errorf("finished %v at the first deadline, want it", got)
	}
}

func TestAVirtualServerAndItsAddressAreKeptForTheLastRealServer(t *testing.T) {
	var b Book
	other := state.RealServerKey{Server: state.MarkKey(state.IPv4, state.MarkOf(state.TCP, 30080, 0)), Address: first.Address}
	for _, k := range []state.RealServerKey{first, second, other} {
		b.Begin(k, start)
	}
	b.End(first)
	if !b.HasServer(server) || !b.HasAddress(server.Address.Addr()) || b.Len() != 2 {
		t.Errorf("%v is off the list before its last real server", server)
	}
	b.End(second)
	if b.HasServer(server) || b.HasAddress(server.Address.Addr()) || !b.Has(other) {
		t.Errorf("%v is on the list after its last real server", server)
	}
	if got := b.Servers(); !slices.Equal(got, []state.VirtualServerKey{other.Server}) {
		t.Errorf("servers %v", got)
	}
}
