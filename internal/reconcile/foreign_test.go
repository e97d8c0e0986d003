// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// An address that turns out to be in use elsewhere is not bound for what drains, nor does a virtual server stay at it,
// however the Service that had it came to lose it.
func TestAnAddressOfSomebodyElseIsNotKeptForWhatDrains(t *testing.T) {
	front := server(0, state.TCP)
	a := front.Address.Addr()
	refused := state.Fragment{Refused: []netip.Addr{a}}
	arrived := Arrived{Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.9"), a}}
	for name, events := range map[string][]Event{
		"refused while it is served":          {Upsert{Owner: owner(0), Fragment: refused}},
		"deleted, and then taken":             {Delete{Owner: owner(0)}, arrived},
		"taken, and then deleted":             {arrived, Delete{Owner: owner(0)}},
		"deleted, and taken by an endpoint":   {Delete{Owner: owner(0)}, Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 3), Arrived: arrived.Addresses}},
		"deleted, and refused to another one": {Delete{Owner: owner(0)}, Upsert{Owner: owner(7), Fragment: refused}},
	} {
		b := syncedBench(t, 2)
		for n := range 3 {
			b.kernel.Connections[endpoint(front, n)] = state.Connections{Active: 1}
		}
		for _, e := range events {
			b.step(e)
			b.settle(t)
		}
		if _, bound := b.kernel.State.Addresses[state.Address{Addr: a}]; bound {
			t.Errorf("%s: the address is bound", name)
		}
		if _, there := b.kernel.State.VirtualServers[front]; there {
			t.Errorf("%s: the virtual server is there", name)
		}
		b.mustEqualDesired(t, name)
		if len(b.core.foreign.arrived) != 0 {
			t.Errorf("%s: remembered for good: %v", name, b.core.foreign.arrived)
		}
	}
}

func TestAnAddressOfSomebodyElseIsNotKeptAfterARestart(t *testing.T) {
	b := syncedBench(t, 1)
	front := server(0, state.TCP)
	b.kernel.Connections[endpoint(front, 0)] = state.Connections{Active: 1}
	b.restart(map[int]state.Fragment{0: {Refused: []netip.Addr{front.Address.Addr()}}})
	b.settle(t)
	b.mustEqualDesired(t, "at once")
}

// While an address is desired for one Service, what is refused there to one Service changes nothing for the connections
// of another.
func TestAnAddressThatAServiceHasIsKeptForItsConnections(t *testing.T) {
	b := syncedBench(t, 1)
	front := server(0, state.TCP)
	busy := endpoint(front, 0)
	b.kernel.Connections[busy] = state.Connections{Active: 1}
	b.step(Upsert{Owner: owner(7), Fragment: state.Fragment{Refused: []netip.Addr{front.Address.Addr()}}})
	b.step(Upsert{Owner: owner(0), Fragment: service(front, 1, 2)})
	b.pass(t, 5*time.Second)
	if _, there := b.kernel.State.RealServers[busy]; !there {
		t.Error("a connection of the Service that has the address was cut")
	}
	b.step(Upsert{Owner: owner(7), Fragment: state.Fragment{}})
	b.step(Delete{Owner: owner(0)})
	b.pass(t, 5*time.Second)
	if _, bound := b.kernel.State.Addresses[state.Address{Addr: front.Address.Addr()}]; !bound {
		t.Error("the address is not refused any more, and is not kept for a connection")
	}
	if n := len(b.core.foreign.count) + len(b.core.foreign.refused); n != 0 {
		t.Errorf("%d refusals are remembered", n)
	}
}
