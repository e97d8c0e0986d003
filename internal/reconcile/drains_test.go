// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestARealServerDrains(t *testing.T) {
	b := syncedBench(t, 1)
	gone := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[gone] = state.Connections{Active: 1}
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)})
	b.settle(t)
	if got := b.kernel.State.RealServers[gone]; got != (state.RealServer{Weight: 0}) {
		t.Fatalf("real server with a connection is %+v, want weight 0", got)
	}
	b.pass(t, 20*time.Second)
	if _, there := b.kernel.State.RealServers[gone]; !there {
		t.Fatal("real server with a connection was removed before its deadline")
	}
	b.kernel.Connections[gone] = state.Connections{}
	b.pass(t, 2*time.Second)
	b.mustEqualDesired(t, "after its last connection")
}

func TestADrainingRealServerLeavesAtItsDeadline(t *testing.T) {
	b := syncedBench(t, 1)
	gone := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[gone] = state.Connections{Active: 1}
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)})
	b.pass(t, 61*time.Second)
	b.mustEqualDesired(t, "after the deadline")
}

func TestADeadlineIsKeptWhileConnectionsCannotBeRead(t *testing.T) {
	b := syncedBench(t, 1)
	b.looksFail = errLost
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)})
	b.pass(t, 59*time.Second)
	if _, there := b.kernel.State.RealServers[endpoint(server(0, state.TCP), 0)]; !there {
		t.Error("the real server was removed before its deadline")
	}
	b.pass(t, time.Second)
	b.mustEqualDesired(t, "at the deadline")
}

func TestALookAtConnectionsThatTakesLongIsNotTakenAgainSoon(t *testing.T) {
	b := syncedBench(t, 1)
	gone := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[gone] = state.Connections{Active: 1}
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)})
	b.settle(t)
	b.now = b.core.Wake()
	w := b.core.Ready(b.now)
	if len(w.Servers) == 0 {
		t.Fatalf("due is %+v, not a look at connections", w)
	}
	b.core.Advance(w, Outcome{Connections: b.kernel.Connections, Looking: time.Second}, b.now)
	if pause := b.core.Wake().Sub(b.now); pause < lookPause*time.Second {
		t.Errorf("the next look is %v after one that took a second", pause)
	}
	b.kernel.Connections[gone] = state.Connections{}
	b.pass(t, (lookPause+1)*time.Second)
	b.mustEqualDesired(t, "after the next look")
}

func TestManyDrainingRealServersAreLookedAtByAndBy(t *testing.T) {
	const services = 3*lookServers + 1
	b := syncedBench(t, services)
	for n := range services {
		b.kernel.Connections[endpoint(server(n, state.TCP), 0)] = state.Connections{Active: 1}
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 1, 2)})
	}
	b.settle(t)
	for range 2 { // rounds
		seen := map[state.VirtualServerKey]bool{}
		for b.now = b.core.Wake(); len(seen) < services; b.now = b.core.Wake() {
			w := b.core.Ready(b.now)
			if len(w.Servers) == 0 || len(w.Servers) > lookServers {
				t.Fatalf("%d virtual servers are to be looked at, after %d", len(w.Servers), len(seen))
			}
			for _, k := range w.Servers {
				if seen[k] {
					t.Fatalf("%v is looked at again before all others were", k)
				}
				seen[k] = true
			}
			b.core.Advance(w, Outcome{Connections: b.kernel.Connections, Looking: 10 * time.Millisecond}, b.now)
		}
	}
	clear(b.kernel.Connections)
	for n := range services {
		b.kernel.Connections[endpoint(server(n, state.TCP), 0)] = state.Connections{}
	}
	b.pass(t, 3*time.Second)
	b.mustEqualDesired(t, "after their last connections")
}

func TestARealServerThatIsWantedAgainGetsItsWeightBackInPlace(t *testing.T) {
	b := syncedBench(t, 1)
	k := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[k] = state.Connections{Active: 1}
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)})
	b.pass(t, 5*time.Second)
	b.ops = testkit.Operations{}
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 0, 3)})
	b.settle(t)
	b.mustEqualDesired(t, "after it is wanted again")
	if b.ops.Rows != 1 {
		t.Errorf("%d rows touched, want 1 update", b.ops.Rows)
	}
}

func TestDrainingSurvivesACrash(t *testing.T) {
	b := syncedBench(t, 1)
	k := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[k] = state.Connections{Active: 1}
	fragments := map[int]state.Fragment{0: service(server(0, state.TCP), 1, 2)}
	b.step(Upsert{Owner: owner(0), Fragment: fragments[0]})
	b.settle(t)
	b.restart(fragments)
	b.ops = testkit.Operations{}
	b.pass(t, 20*time.Second)
	if _, there := b.kernel.State.RealServers[k]; !there || b.ops.Rows != 0 {
		t.Fatalf("after the restart: there %v, %d rows touched; want it to go on draining untouched", there, b.ops.Rows)
	}
	b.kernel.Connections[k] = state.Connections{}
	b.pass(t, 2*time.Second)
	b.mustEqualDesired(t, "after its last connection")
}

func TestAServiceThatGoesStaysForItsConnectionsWithoutTakingNewOnes(t *testing.T) {
	b := syncedBench(t, 2)
	busy := endpoint(server(0, state.TCP), 1)
	b.kernel.Connections[busy] = state.Connections{Active: 1}
	b.step(Delete{Owner: owner(0)})
	b.pass(t, 20*time.Second)
	h, there := b.kernel.State.RealServers[busy]
	_, server0 := b.kernel.State.VirtualServers[busy.Server]
	_, address := b.kernel.State.Addresses[state.Address{Addr: busy.Server.Address.Addr()}]
	if !there || h.Weight != 0 || !server0 || !address {
		t.Fatalf("real server there %v with weight %d, virtual server %v, address %v", there, h.Weight, server0, address)
	}
	if foreign := len(realServersOf(b.kernel.State, busy.Server)); foreign != 1 {
		t.Errorf("%d real servers left, want the one with a connection", foreign)
	}
	b.kernel.Connections[busy] = state.Connections{}
	b.pass(t, 2*time.Second)
	b.mustEqualDesired(t, "after the last connection")
}

func TestADeletedServiceThatDrainsSurvivesACrash(t *testing.T) {
	b := syncedBench(t, 1)
	busy := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[busy] = state.Connections{Active: 1}
	b.step(Delete{Owner: owner(0)})
	b.pass(t, 5*time.Second)
	b.restart(nil)
	b.pass(t, 20*time.Second)
	if _, there := b.kernel.State.RealServers[busy]; !there {
		t.Fatal("the restart cut a connection")
	}
	b.pass(t, 61*time.Second)
	b.mustEqualDesired(t, "after the deadline")
}

func TestAServiceChoosesItsOwnDrainTimeout(t *testing.T) {
	b := syncedBench(t, 1)
	busy := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[busy] = state.Connections{Active: 1}
	f := service(server(0, state.TCP), 0, 3)
	f.Drains, f.DrainTimeout = true, 5*time.Second
	b.step(Upsert{Owner: owner(0), Fragment: f})
	b.step(Delete{Owner: owner(0)})
	b.pass(t, 7*time.Second)
	b.mustEqualDesired(t, "after its own deadline")
}

func TestWhoLosesAVirtualServerDoesNotChooseItsDrainTimeout(t *testing.T) {
	b := syncedBench(t, 1)
	busy := endpoint(server(0, state.TCP), 0)
	b.kernel.Connections[busy] = state.Connections{Active: 1}
	f := service(server(0, state.TCP), 0, 1)
	f.Drains, f.DrainTimeout = true, 0
	b.step(Upsert{Owner: owner(1), Fragment: f})
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)})
	b.pass(t, 5*time.Second)
	if _, there := b.kernel.State.RealServers[busy]; !there {
		t.Error("the loser's timeout cut a connection of the winner")
	}
}

func realServersOf(s state.State, k state.VirtualServerKey) []state.RealServerKey {
	var keys []state.RealServerKey
	for r := range s.RealServers {
		if r.Server == k {
			keys = append(keys, r)
		}
	}
	return keys
}

func TestUDPFlowsToAVirtualServerThatOthersAreLedToAreFlushedAtEachOfTheirFrontends(t *testing.T) {
	b := syncedBench(t, 0)
	front := netip.MustParseAddrPort("192.0.2.1:53")
	lead := state.SetEntry{Set: "KUBE-ALL-PORTS", Address: front.Addr(), Protocol: state.UDP, Port: front.Port()}
	k, _ := lead.LeadsTo(state.Entry{})
	f := func(from, n int) state.Fragment {
		s := service(k, from, n).State()
		s.Sets["KUBE-ALL-PORTS"] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 9}
		s.Entries = map[state.SetEntry]state.Entry{lead: {}}
		s.Addresses = nil
		return state.FragmentOf(s, nil)
	}
	b.step(Upsert{Owner: owner(1), Fragment: f(0, 2)})
	b.settle(t)
	b.step(Upsert{Owner: owner(1), Fragment: f(1, 1)})
	b.settle(t)
	gone := endpoint(k, 0).Address
	if want := []state.Flow{{Protocol: state.UDP, Service: front, Endpoint: gone}}; !slices.Equal(b.flows, want) {
		t.Errorf("flushed %v, want %v", b.flows, want)
	}
}

func TestUDPFlowsToARemovedEndpointAreFlushed(t *testing.T) {
	b := syncedBench(t, 0)
	k := server(1, state.UDP)
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 0, 2)})
	b.settle(t)
	b.flows = nil
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 1, 1)})
	b.settle(t)
	want := []state.Flow{{Protocol: state.UDP, Service: k.Address, Endpoint: endpoint(k, 0).Address}}
	if !slices.Equal(b.flows, want) {
		t.Errorf("flushed %v, want %v", b.flows, want)
	}
	b.mustEqualDesired(t, "a UDP endpoint does not drain")
}
