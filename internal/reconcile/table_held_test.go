// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// mustHoldRightly fails if a row is held back although what it waits for has happened: it would not be looked at before
// the next audit.
func (b *bench) mustHoldRightly(t *testing.T) {
	t.Helper()
	c := b.core
	holdsRightly(t, &c.sets)
	holdsRightly(t, &c.entries)
	holdsRightly(t, &c.chains)
	holdsRightly(t, &c.jumps)
	holdsRightly(t, &c.links)
	holdsRightly(t, &c.virtualServers)
	holdsRightly(t, &c.addresses)
	for k := range c.realServers.held.rows {
		if c.realServers.mayAdd(k) && c.realServers.mayRemove() {
			t.Fatalf("the real servers of %v are held back for nothing", k)
		}
	}
}

func holdsRightly[K state.Key[K], V comparable](t *testing.T, l *tableState[K, V]) {
	t.Helper()
	for k := range l.held.rows {
		_, hasH := l.get(k)
		_, hasW := l.want(k)
		if !isHeld(l.mayAdd, k, hasW && !hasH) && !isHeld(l.mayRemove, k, hasH && !hasW) {
			t.Fatalf("%v is held back for nothing", k)
		}
	}
}

// draining is a bench on which some deleted Services drain, besides ten that stay.
func draining(t testing.TB, deleted int) *bench {
	t.Helper()
	const stay = 10
	b := syncedBench(t, stay+deleted)
	for n := range deleted {
		b.kernel.Connections[endpoint(server(stay+n, state.TCP), 0)] = state.Connections{Active: 1}
		b.step(Delete{Owner: owner(stay + n)})
	}
	b.settle(t)
	if held := b.core.entries.held.len(); held != 2*deleted {
		t.Fatalf("%d entries are held back for %d Services, want two each", held, deleted)
	}
	return b
}

// countLooks counts how often it is asked whether a row may be added or removed.
func (b *bench) countLooks() *int {
	n := new(int)
	c := b.core
	c.sets.mayRemove = counted(n, c.sets.mayRemove)
	c.entries.mayRemove = counted(n, c.entries.mayRemove)
	c.chains.mayRemove = counted(n, c.chains.mayRemove)
	c.jumps.mayRemove = counted(n, c.jumps.mayRemove)
	c.links.mayRemove = counted(n, c.links.mayRemove)
	c.virtualServers.mayAdd = counted(n, c.virtualServers.mayAdd)
	c.virtualServers.mayRemove = counted(n, c.virtualServers.mayRemove)
	c.addresses.mayAdd = counted(n, c.addresses.mayAdd)
	c.addresses.mayRemove = counted(n, c.addresses.mayRemove)
	c.realServers.mayAdd = counted(n, c.realServers.mayAdd)
	return n
}

func counted[K any](n *int, may func(K) bool) func(K) bool {
	return func(k K) bool {
		*n++
		return may(k)
	}
}

// A change of every kind, while ever more deleted Services drain.
func TestAChangeLooksAtNoMoreRowsWhile10000DeletedServicesDrain(t *testing.T) {
	changes := []struct {
		name  string
		event Event
	}{
		{"a Service comes", Upsert{Owner: owner(20_000), Fragment: service(server(20_000, state.TCP), 0, 3)}},
		{"a Service goes", Delete{Owner: owner(4)}},
		{"a Service moves", Upsert{Owner: owner(3), Fragment: moved(service(server(3, state.TCP), 0, 3))}},
		{"the node's own addresses come again", Local{}},
	}
	few, many := draining(t, 10), draining(t, 10_000)
	fewLooks, manyLooks := few.countLooks(), many.countLooks()
	for _, change := range changes {
		*fewLooks, *manyLooks = 0, 0
		few.step(change.event)
		few.settle(t)
		many.step(change.event)
		many.settle(t)
		if *fewLooks != *manyLooks {
			t.Errorf("%s: with 10 Services that drain %d looks, with 10,000 %d", change.name, *fewLooks, *manyLooks)
		}
	}
}

func TestWhatDrainsLeavesWithAllItsRowsWithoutAnAudit(t *testing.T) {
	b := draining(t, 20)
	b.core.audit.due = b.now.Add(time.Hour)
	for k := range b.kernel.Connections {
		b.kernel.Connections[k] = state.Connections{}
	}
	b.pass(t, 10*time.Second)
	b.mustEqualDesired(t, "after the last connections")
}

func TestAnOwnerIsFinishedWhateverOthersWaitFor(t *testing.T) {
	b := draining(t, 5)
	for _, o := range []desired.Owner{owner(1), owner(12), {}} {
		if b.core.unfinished(o) {
			t.Errorf("%v has rows that are still to come", o)
		}
	}
}

func BenchmarkAChangeOfAServiceWhileDeletedOnesDrain(b *testing.B) {
	for _, deleted := range []int{0, 10_000} {
		bench := draining(b, deleted)
		a := newReporter(bench.core, All())
		with, without := service(server(5, state.TCP), 0, 3), service(server(5, state.TCP), 0, 3)
		with.Entries[0].Value.Comment = "ns/other"
		b.Run(map[int]string{0: "none", 10_000: "10000"}[deleted], func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				e := Upsert{Owner: owner(5), Fragment: with, Origin: Origin{Queued: bench.now, Services: 1}}
				if i%2 == 0 {
					e.Fragment = without
				}
				a.received(e, bench.core.Step(e, bench.now), bench.now)
				for w := bench.core.Ready(bench.now); !w.Empty(); w = bench.core.Ready(bench.now) {
					bench.core.Advance(w, Outcome{}, bench.now) // the kernel's time does not count
				}
				a.settled(bench.now)
			}
		})
	}
}
