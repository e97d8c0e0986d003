// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// aside begins the audit that is due, beside which other work can be done.
func (b *bench) aside(t *testing.T) Work {
	t.Helper()
	b.now = b.core.Wake()
	w := b.core.Ready(b.now)
	if !w.Audit || !w.Concurrent {
		t.Fatalf("due is %+v, not an audit beside which work can be done", w)
	}
	return w
}

func (b *bench) list() (o Outcome) {
	o.Observed, o.ObserveErr = b.tables.List(context.Background())
	return o
}

func TestTheFirstAuditsAreAlone(t *testing.T) {
	b := newBench(nil)
	for _, e := range []Event{Restored{}, Synced{}} {
		b.step(e)
		if w := b.core.Ready(b.now); !w.Audit || w.Concurrent {
			t.Errorf("after %T due is %+v, not an audit alone", e, w)
		}
		b.core.Advance(Work{Audit: true}, b.list(), b.now)
		b.settle(t)
	}
}

func TestWhatIsWrittenDuringAnAuditCountsAsWritten(t *testing.T) {
	for _, when := range []string{"listed before", "listed after"} {
		b := syncedBench(t, 3)
		w := b.aside(t)
		o := b.list()
		b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 4)}) // one real server leaves, two come
		b.step(Upsert{Owner: owner(9), Fragment: service(server(9, state.TCP), 0, 2)})
		b.step(Delete{Owner: owner(1)})
		b.settle(t)
		if when == "listed after" {
			o = b.list()
		}
		b.ops.Rows = 0
		b.core.Advance(w, o, b.now)
		b.settle(t)
		if b.ops.Rows != 0 || b.core.audit.drift != [state.Tables]int{} {
			t.Errorf("%s: %d rows written after the audit, drift %v", when, b.ops.Rows, b.core.audit.drift)
		}
		b.pass(t, 2*time.Minute) // what drains leaves
		b.mustEqualDesired(t, when)
	}
}

func TestWhatSomebodyBreaksDuringAnAuditIsRepaired(t *testing.T) {
	b := syncedBench(t, 3)
	w := b.aside(t)
	broken, changed := endpoint(server(1, state.TCP), 0), owner(0)
	delete(b.kernel.State.RealServers, broken)
	o := b.list()
	b.step(Upsert{Owner: changed, Fragment: service(server(0, state.TCP), 0, 4)})
	b.settle(t)
	b.core.Advance(w, o, b.now)
	if b.core.audit.drift[state.RealServers] != 1 {
		t.Errorf("drift of real servers is %d, want 1", b.core.audit.drift[state.RealServers])
	}
	b.settle(t)
	b.mustEqualDesired(t, "after the audit")
}

// What is written of a virtual server says nothing of its other real servers.
func TestWhatSomebodyBreaksBesideWhatIsWrittenIsRepaired(t *testing.T) {
	b := syncedBench(t, 3)
	w := b.aside(t)
	k := server(0, state.TCP)
	delete(b.kernel.State.RealServers, endpoint(k, 1))
	b.kernel.State.RealServers[endpoint(k, 9)] = state.RealServer{Weight: 1}
	o := b.list()
	b.step(Upsert{Owner: owner(0), Fragment: service(k, 0, 4)})
	b.settle(t)
	b.core.Advance(w, o, b.now)
	if b.core.audit.drift[state.RealServers] != 2 {
		t.Errorf("drift of real servers is %d, want one that left and one that came", b.core.audit.drift[state.RealServers])
	}
	b.settle(t)
	b.pass(t, 2*time.Minute) // what drains leaves
	b.mustEqualDesired(t, "after the audit")
}

// The kernel goes on with a dump of virtual servers by counting rows.
func TestALongListThatLacksRowsIsNotBelievedIfOthersWentMeanwhile(t *testing.T) {
	b := syncedBench(t, 3)
	w := b.aside(t)
	o := b.list()
	delete(o.Observed.VirtualServers, server(2, state.TCP))
	maps.DeleteFunc(o.Observed.RealServers, func(k state.RealServerKey, _ state.RealServer) bool { return k.Server == server(2, state.TCP) })
	b.step(Upsert{Owner: owner(9), Fragment: service(server(9, state.TCP), 0, 2)})
	b.settle(t)
	b.ops.Rows = 0
	b.core.Advance(w, o, b.now)
	if again := b.core.Ready(b.now); !again.Audit || again.Concurrent {
		t.Errorf("after the list that lacks rows due is %+v, not an audit alone", again)
	}
	b.core.Advance(Work{Audit: true}, b.list(), b.now)
	b.settle(t)
	if b.ops.Rows != 0 || b.core.audit.drift != [state.Tables]int{} {
		t.Errorf("%d rows written, drift %v", b.ops.Rows, b.core.audit.drift)
	}
	b.pass(t, time.Minute)
	if w := b.core.Ready(b.core.Wake()); !w.Concurrent {
		t.Errorf("the next audit is %+v, alone again", w)
	}
}

func TestARefusedWriteDuringAnAuditStaysInDoubt(t *testing.T) {
	b := newDeaf()
	b.step(Synced{})
	b.settle(t)
	w := b.aside(t)
	o := b.list()
	b.servers = true
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 2)})
	b.settle(t)
	b.core.Advance(w, o, b.now)
	if !b.core.virtualServers.doubts(server(1, state.TCP)) {
		t.Error("a list from before the write ends the doubt about it")
	}
	b.servers = false
	b.pass(t, time.Minute)
	b.mustEqualDesired(t, "after the answers are heard again")
}

func TestDriftDuringAnAuditCallsForAnother(t *testing.T) {
	b := syncedBench(t, 1)
	w := b.aside(t)
	o := b.list()
	b.step(Drifted{})
	b.core.Advance(w, o, b.now)
	if wake := b.core.Wake(); wake.After(b.now.Add(testOptions().AuditPause)) {
		t.Errorf("the next audit is %v after this one", wake.Sub(b.now))
	}
}

func TestAnAuditBesideThatFailsIsMadeAlone(t *testing.T) {
	b := syncedBench(t, 1)
	w := b.aside(t)
	o := b.list()
	o.Observed.VirtualServers, o.ObserveErr = nil, errors.New("interrupted")
	b.core.Advance(w, o, b.now)
	if again := b.core.Ready(b.now); !again.Audit || again.Concurrent {
		t.Errorf("due is %+v, not an audit alone", again)
	}
}

// TestAuditsBesideARandomWalkFindNothing lists tables one by one while Services change, and sometimes leaves out what
// the kernel might.
func TestAuditsBesideARandomWalkFindNothing(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 11))
		b := syncedBench(t, 10)
		for range 200 {
			b.now = b.now.Add(testOptions().SyncPeriod + time.Second)
			w := b.core.Ready(b.now)
			if !w.Audit {
				t.Fatalf("seed %d: due is %+v, not an audit", seed, w)
			}
			listing := testkit.Begin(b.tables)
			for !listing.Go(random.IntN(3)) && w.Concurrent {
				n := random.IntN(15)
				if random.IntN(3) == 0 {
					b.step(Delete{Owner: owner(n)})
				} else {
					b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), random.IntN(4), random.IntN(4))})
				}
				b.settle(t)
			}
			listing.Go(int(state.Tables))
			if w.Concurrent && b.core.virtualServers.reshaped {
				leaveOut(listing.State, random)
			}
			b.core.Advance(w, Outcome{Observed: listing.State}, b.now)
			if b.core.audit.drift != [state.Tables]int{} {
				t.Fatalf("seed %d: drift %v", seed, b.core.audit.drift)
			}
			b.settle(t)
		}
		b.pass(t, 2*time.Minute)
		b.mustEqualDesired(t, fmt.Sprint("seed ", seed))
	}
}

// leaveOut takes a virtual server out of a list, or none.
func leaveOut(s state.State, random *rand.Rand) {
	if random.IntN(2) == 0 || len(s.VirtualServers) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(s.VirtualServers), state.VirtualServerKey.Compare)
	k := keys[random.IntN(len(keys))]
	delete(s.VirtualServers, k)
	maps.DeleteFunc(s.RealServers, func(r state.RealServerKey, _ state.RealServer) bool { return r.Server == k })
}

// slow is a Lister that knows what to say when it begins, and takes its time.
type slow struct {
	listed chan state.State
	takes  time.Duration
}

func (s slow) Observe(context.Context) (state.State, state.Packed, error) {
	listed := <-s.listed
	time.Sleep(s.takes) // of the bubble's clock
	reals := state.PackReals(listed.RealServers)
	listed.RealServers = nil
	return listed, reals, nil
}

func TestAChangeDoesNotWaitForAnAuditThatGoesOnBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &works{aside: &slow{make(chan state.State, 1), 20 * time.Second}}
		run(t, w, 0)
		w.tell(change(1, 2), Synced{})
		listed, err := w.kernel.Tables().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.aside.listed <- listed
		w.pass(testOptions().SyncPeriod + time.Second - time.Since(w.began))
		w.tell(change(1, 3))
		if ends := w.written(); ends[len(ends)-1] != testOptions().SyncPeriod+time.Second {
			t.Errorf("written at %v", ends)
		}
		w.pass(20 * time.Second)
		acts := w.diary.read().acts
		last := acts[len(acts)-1]
		if !last.Work.Audit || last.Took != 20*time.Second || last.Drift != [state.Tables]int{} {
			t.Errorf("the last act is %+v, not the audit that goes on beside", last.Work)
		}
		if w := w.diary.read().last(); !w.Wake.After(w.At) {
			t.Errorf("at %v the loop means to wake at %v", w.At, w.Wake)
		}
	})
}
