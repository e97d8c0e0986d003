// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
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
			got := slices.Concat(b.Finish(tc.connections), b.Expire(start.Add(tc.after)))
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
	if got := b.Expire(start.Add(time.Minute)); len(got) != 1 {
		t.Errorf("finished %v at the first deadline, want it", got)
	}
}

func TestAVirtualServerAndItsAddressAreKeptForTheLastRealServer(t *testing.T) {
	var b Book
	other := state.RealServerKey{Server: state.MarkKey(state.IPv4, testkit.Mark(state.TCP, 30080)), Address: first.Address}
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

func TestDeadlinesComeInTheirOrderWhateverEndsBefore(t *testing.T) {
	var b Book
	random := rand.New(rand.NewPCG(1, 2))
	due := map[state.RealServerKey]time.Time{}
	for n := range 500 {
		k := first
		k.Server.Address = netip.AddrPortFrom(k.Server.Address.Addr(), uint16(n%50+1))
		k.Address = netip.AddrPortFrom(k.Address.Addr(), uint16(n+1))
		due[k] = start.Add(time.Duration(random.IntN(100)) * time.Second)
		b.Begin(k, due[k])
	}
	for k := range due {
		if random.IntN(3) == 0 {
			b.End(k)
			delete(due, k)
		}
	}
	for now := start; b.Len() > 0; now = now.Add(time.Second) {
		for _, k := range b.Expire(now) {
			if !due[k].Equal(now) {
				t.Errorf("%v leaves after %v, want %v", k, now.Sub(start), due[k].Sub(start))
			}
			delete(due, k)
		}
	}
	if _, any := b.First(); any || len(due) > 0 {
		t.Errorf("%d never left", len(due))
	}
}

func TestALookAtSomeRealServersCostsNoMoreWhile10000Drain(t *testing.T) {
	allocations := func(others int) float64 {
		var b Book
		for n := range others {
			k := second
			k.Server.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 97, byte(n >> 8), byte(n)}), 80)
			b.Begin(k, start.Add(time.Hour))
		}
		return testing.AllocsPerRun(100, func() {
			b.Begin(first, start)
			if got := b.Finish(map[state.RealServerKey]state.Connections{first: {}}); len(got) != 1 {
				t.Fatalf("finished %v", got)
			}
		})
	}
	if few, many := allocations(10), allocations(10_000); many > few {
		t.Errorf("%.0f allocations while 10 others drain, %.0f while 10,000 do", few, many)
	}
}
