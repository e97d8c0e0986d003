// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A Service's entries come one chunk before all else of it. What it wants can change between the two.
func TestAServiceThatMovesWhileItIsHalfWrittenHasNoAddressBeforeItsServer(t *testing.T) {
	b := newChunked(t, 10)
	b.step(Synced{})
	b.finish(100)
	before, after := server(1, state.TCP), server(1, state.TCP)
	after.Address = netip.AddrPortFrom(after.Address.Addr(), 81)
	b.step(Upsert{Owner: owner(1), Fragment: service(before, 0, 2)})
	b.write()
	if len(b.kernel.State.Entries) == 0 || len(b.kernel.State.VirtualServers) != 0 {
		t.Fatalf("%d entries and %d virtual servers are there", len(b.kernel.State.Entries), len(b.kernel.State.VirtualServers))
	}
	b.step(Upsert{Owner: owner(1), Fragment: service(after, 0, 2)})
	b.finish(100)
	b.mustEqualDesired(t, "at the end")
}

// Small changes of other Services come faster than they can be written.
func TestALargeChangeIsNotStarvedByEverNewServices(t *testing.T) {
	const large = 5000
	b := newChunked(t, 20)
	b.step(Synced{})
	b.finish(100)
	b.step(Upsert{Owner: owner(large), Fragment: service(server(large, state.TCP), 0, 50)})
	for n := range 400 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 2)})
		if n%8 == 7 {
			b.write()
		}
	}
	if got := len(realServersOf(b.kernel.State, server(large, state.TCP))); got != 50 {
		t.Errorf("%d of 50 real servers are there", got)
	}
}

// Endpoints die all the time in a large cluster.
func TestALargeChangeIsNotStarvedByDeadEndpoints(t *testing.T) {
	const services, large = 40, 100
	b := newChunked(t, 20)
	b.step(Synced{})
	for n := range services {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 2)})
	}
	b.finish(1000)
	b.step(Upsert{Owner: owner(large), Fragment: service(server(large, state.TCP), 0, 50)})
	for n := range services {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 1, 1)})
		b.write()
	}
	if got := len(realServersOf(b.kernel.State, server(large, state.TCP))); got != 50 {
		t.Errorf("%d of 50 real servers are there", got)
	}
}

// The Service itself may change before each of its chunks.
func TestALargeChangeIsNotStarvedByItsOwnService(t *testing.T) {
	const large = 100
	b := newChunked(t, 20)
	b.step(Synced{})
	b.finish(100)
	for change := range 60 {
		for n := range 5 {
			b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 2+change%2)})
		}
		b.step(Upsert{Owner: owner(large), Fragment: service(server(large, state.TCP), 0, 100+change)})
		b.write()
	}
	if got := len(realServersOf(b.kernel.State, server(large, state.TCP))); got < 100 {
		t.Errorf("%d of more than 100 real servers are there", got)
	}
}

// Flows of an endpoint that is gone are flushed while a large change is written, also if foreign were being flushed
// when it went.
func TestFlowsThatGoNowhereDoNotWaitForALargeChange(t *testing.T) {
	const large = 100
	b := newChunked(t, 20)
	b.step(Synced{})
	for n := range 2 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.UDP), 0, 3)})
	}
	b.finish(100)
	b.step(Upsert{Owner: owner(large), Fragment: service(server(large, state.TCP), 0, 500)})
	for n := range 2 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.UDP), 1, 2)})
		b.write()
	}
	b.write()
	b.write()
	// What went untranslated before a virtual server was there has time.
	nowhere := slices.DeleteFunc(slices.Clone(b.core.flows.list), state.Flow.Untranslated)
	if len(nowhere) > 0 || b.core.queue.empty() {
		t.Errorf("flows %v wait", nowhere)
	}
}
