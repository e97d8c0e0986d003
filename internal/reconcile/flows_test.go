// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestAFlowThatCannotBeFlushedWaitsOnce(t *testing.T) {
	b := syncedBench(t, 0)
	k := server(1, state.UDP)
	b.flushesFail = errLost
	for n := range 2000 {
		b.step(Upsert{Owner: owner(1), Fragment: service(k, n%2, 1)})
		b.settle(t)
	}
	b.step(Delete{Owner: owner(1)})
	b.settle(t)
	if waiting := len(b.core.flows.list); waiting != 3 {
		t.Fatalf("%d flows wait, want those to the two endpoints and those from before the Service", waiting)
	}
	b.flushesFail, b.flows = nil, nil
	b.pass(t, time.Minute)
	want := []state.Flow{
		{Protocol: state.UDP, Service: k.Address, Endpoint: k.Address},
		{Protocol: state.UDP, Service: k.Address, Endpoint: endpoint(k, 0).Address},
		{Protocol: state.UDP, Service: k.Address, Endpoint: endpoint(k, 1).Address},
	}
	slices.SortFunc(want, state.Flow.Compare)
	if slices.SortFunc(b.flows, state.Flow.Compare); !slices.Equal(b.flows, want) {
		t.Errorf("flushed %v, want %v", b.flows, want)
	}
	if len(b.core.flows.list)+b.core.flows.known.len() > 0 {
		t.Errorf("%v still wait", b.core.flows.list)
	}
}

func TestAFlowToAnEndpointThatIsBackIsNotFlushed(t *testing.T) {
	b := syncedBench(t, 0)
	k := server(1, state.SCTP)
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 0, 2)})
	b.settle(t)
	b.flushesFail = errLost
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 1, 1)})
	b.settle(t)
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 0, 2)})
	b.settle(t)
	b.flushesFail, b.flows = nil, nil
	b.pass(t, time.Minute)
	if len(b.flows) > 0 {
		t.Errorf("flushed %v", b.flows)
	}
}

func TestFlowsThatCannotBeFlushedAreBounded(t *testing.T) {
	var s staleFlows
	for n := range maxFlows + 1000 {
		s.add(state.Flow{Protocol: state.UDP, Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 53)})
	}
	if len(s.list) != maxFlows || s.known.len() != maxFlows || s.givenUp != 1000 {
		t.Errorf("%d flows wait, %d are known, %d are given up", len(s.list), s.known.len(), s.givenUp)
	}
	s.took(s.list[:10], nil, time.Time{})
	if len(s.list) != maxFlows-10 || s.known.len() != maxFlows-10 || s.givenUp != 0 {
		t.Errorf("after a flush %d flows wait, %d are known, %d are given up", len(s.list), s.known.len(), s.givenUp)
	}
}
