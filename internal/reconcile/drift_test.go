// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestNothingDriftsThatNobodyElseTouches(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 8))
		b := newBench(nil)
		b.step(Synced{})
		for range 300 {
			n := random.IntN(20)
			if random.IntN(4) == 0 {
				b.step(Delete{Owner: owner(n)})
			} else {
				protocol := []state.Protocol{state.TCP, state.UDP}[random.IntN(2)]
				b.step(Upsert{Owner: owner(n), Fragment: service(server(n%15, protocol), random.IntN(5), random.IntN(4))})
			}
			b.pass(t, time.Duration(random.IntN(10000))*time.Millisecond)
			if b.core.audit.drift != [state.Tables]int{} {
				t.Fatalf("seed %d: an audit found rows %v that another program would have changed", seed, b.core.audit.drift)
			}
		}
	}
}

func TestAnAuditCountsWhatSomebodyElseChanged(t *testing.T) {
	b := syncedBench(t, 5)
	s := b.kernel.State
	for n := range 2 {
		delete(s.RealServers, endpoint(server(n, state.TCP), 0))
	}
	s.RealServers[endpoint(server(3, state.TCP), 0)] = state.RealServer{Weight: 9}
	delete(s.Addresses, state.Address{Addr: server(4, state.TCP).Address.Addr()})
	s.Entries[inSet(otherSet, entryOf(server(5, state.TCP)))] = state.Entry{}
	b.step(Upsert{Owner: owner(4), Fragment: service(server(4, state.TCP), 0, 4)}) // a change is none
	b.pass(t, 31*time.Second)
	want := [state.Tables]int{state.Entries: 1, state.RealServers: 3, state.Addresses: 1}
	if b.core.audit.drift != want {
		t.Errorf("found %v, want %v", b.core.audit.drift, want)
	}
	b.mustEqualDesired(t, "after the audit")
	b.pass(t, 31*time.Second)
	if b.core.audit.drift != [state.Tables]int{} {
		t.Errorf("found %v after all was mended", b.core.audit.drift)
	}
}
