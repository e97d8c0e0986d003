// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

type kernelTables = kernel.Tables

// faultyNow is testkit.Faulty with a share that the test can change.
func faultyNow(t kernelTables, random *rand.Rand, share *float64) kernelTables {
	return testkit.FaultyWhile(t, random, func() float64 { return *share })
}

func syncedBench(t testing.TB, services int) *bench {
	t.Helper()
	b := newBench(nil)
	for n := range services {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 3)})
	}
	b.step(Synced{})
	b.settle(t)
	b.mustEqualDesired(t, "after the start")
	return b
}

func TestNothingIsWrittenBeforeAllIsKnown(t *testing.T) {
	b := newBench(nil)
	b.kernel.State.VirtualServers[server(9, state.TCP)] = state.VirtualServer{Scheduler: "rr"}
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 1)})
	b.settle(t)
	if b.ops != (testkit.Operations{}) {
		t.Errorf("operations %+v before Synced, want none", b.ops)
	}
}

func TestOneEndpointsChangeCostsTheSameWith10AndWith10000Services(t *testing.T) {
	var costs []testkit.Operations
	for _, services := range []int{10, 10_000} {
		b := syncedBench(t, services)
		b.ops = testkit.Operations{}
		b.step(Upsert{Owner: owner(5), Fragment: service(server(5, state.TCP), 1, 3)}) // one gone, one new
		b.settle(t)
		b.now = b.now.Add(2 * time.Second)
		b.settle(t) // the drained one leaves
		b.mustEqualDesired(t, "after the change")
		costs = append(costs, b.ops)
	}
	if want := (testkit.Operations{Rows: 3}); costs[0] != want || costs[1] != want {
		t.Errorf("cost with 10 Services %+v, with 10,000 %+v, want %+v: add, weight 0, remove", costs[0], costs[1], want)
	}
}

func TestOnlyTheRowsThatFailedAreTriedAgainAndLessAndLessOften(t *testing.T) {
	b := syncedBench(t, 1)
	// A set that vanished makes entries fail, and nothing else.
	delete(b.kernel.State.Sets, ourSet)
	clear(b.kernel.State.Entries)
	b.core.audit.due = b.now.Add(time.Hour) // the audit would mend it at once
	b.core.audit.ended = b.now.Add(time.Hour)
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 2)})
	b.settle(t)
	b.ops = testkit.Operations{}
	var tries []time.Duration
	start := b.now
	for len(tries) < 5 {
		b.now = b.core.Wake()
		before := b.ops.Rows
		b.settle(t)
		if got := b.ops.Rows - before; got != 1 {
			t.Fatalf("a retry touched %d rows, want the 1 that failed", got)
		}
		tries = append(tries, b.now.Sub(start))
	}
	ms := time.Millisecond
	if want := []time.Duration{100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms}; !slices.Equal(tries, want) {
		t.Errorf("tried after %v, want %v", tries, want)
	}
}

func TestRowsOfOthersSurviveTheStartAndEveryAudit(t *testing.T) {
	b := newBench(nil)
	foreign := server(999, state.TCP)
	b.kernel.State.VirtualServers[foreign] = state.VirtualServer{Scheduler: "wlc"}
	b.kernel.State.RealServers[endpoint(foreign, 1)] = state.RealServer{Weight: 5}
	b.kernel.State.Sets["SOMEONE"] = state.Set{Type: state.HashIP, Family: state.IPv4}
	b.kernel.State.Links[state.DummyLink] = state.Link{Kind: "dummy"}
	b.kernel.State.Addresses[state.Address{Addr: foreign.Address.Addr()}] = state.Binding{}
	b.step(Synced{})
	b.pass(t, 5*time.Minute)
	_, vs := b.kernel.State.VirtualServers[foreign]
	rs := b.kernel.State.RealServers[endpoint(foreign, 1)].Weight
	_, set := b.kernel.State.Sets["SOMEONE"]
	_, address := b.kernel.State.Addresses[state.Address{Addr: foreign.Address.Addr()}]
	if !vs || rs != 5 || !set || !address {
		t.Errorf("virtual server %v, real server's weight %d, set %v, address %v: want all untouched", vs, rs, set, address)
	}
}

func TestRowsLeftBehindByADeadDaemonAreRemovedAtTheStart(t *testing.T) {
	b := syncedBench(t, 3)
	b.restart(map[int]state.Fragment{1: service(server(1, state.TCP), 0, 3)})
	b.pass(t, 2*time.Second) // without connections they are soon drained
	b.mustEqualDesired(t, "after a start with fewer Services")
}

func TestAStartOverAKernelThatIsRightWritesNothing(t *testing.T) {
	b := syncedBench(t, 3)
	fragments := map[int]state.Fragment{}
	for n := range 3 {
		fragments[n] = service(server(n, state.TCP), 0, 3)
	}
	b.restart(fragments)
	b.ops = testkit.Operations{}
	b.settle(t)
	if b.ops.Rows != 0 {
		t.Errorf("%d rows touched, want none", b.ops.Rows)
	}
}

func TestDriftSeenInAnAnswerIsRepairedWithoutWaitingForTheSyncPeriod(t *testing.T) {
	b := syncedBench(t, 3)
	b.pass(t, 5*time.Second)
	clear(b.kernel.State.VirtualServers) // ipvsadm -C
	clear(b.kernel.State.RealServers)
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 4)})
	b.pass(t, time.Second)
	b.mustEqualDesired(t, "one second after a change met the drift")
}

func TestATableThatCannotBeListedIsLookedAtAgainSoon(t *testing.T) {
	share := 0.0
	b := newBench(func(k kernelTables) kernelTables {
		return faultyNow(k, rand.New(rand.NewPCG(1, 1)), &share)
	})
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 3)})
	share = 1
	b.step(Synced{})
	b.settle(t)
	share = 0
	b.pass(t, time.Second)
	b.mustEqualDesired(t, "one second after a failed audit")
}

func TestAnEntryThatProvesARowLeavesOnceAnotherDoes(t *testing.T) {
	b := syncedBench(t, 1)
	b.step(Upsert{Owner: owner(0), Fragment: moved(service(server(0, state.TCP), 0, 3))})
	b.settle(t)
	b.mustEqualDesired(t, "after the Service moved to other sets")
}

// As on a node whose firewall changes while Services go.
func TestWhatOtherSetsProveIsOursAsLongAsTheyAreThere(t *testing.T) {
	b := syncedBench(t, 3)
	b.core = NewCore(testOptions())
	other := base()
	other.Sets = slices.DeleteFunc(other.Sets, func(r diff.Row[state.SetName, state.Set]) bool {
		return r.Key == ourSet || r.Key == addressSet
	})
	other.Chains[0].Value = state.ChainOf("-m set --match-set KUBE-EXTERNAL-IP dst,dst -j ACCEPT")
	b.step(Upsert{Fragment: other})
	b.step(Upsert{Owner: owner(1), Fragment: moved(service(server(1, state.TCP), 0, 3))})
	b.step(Synced{})
	b.pass(t, 2*time.Minute)
	b.mustEqualDesired(t, "after two Services went with their sets, and one moved to others")
}

func TestAnAddressComesNoSoonerThanAllThatServesIt(t *testing.T) {
	b := newBench(nil)
	k := server(1, state.TCP)
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 0, 3)})
	b.step(Synced{})
	for range 10 {
		w := b.core.Ready(b.now)
		if len(w.Delta.Addresses.Add) > 0 {
			w.Delta.Apply(b.kernel.State)
			b.kernel.State.Addresses = b.core.Desired().Addresses
			b.mustEqualDesired(t, "when the address comes")
			return
		}
		b.tables.Apply(context.Background(), w.Delta)
		b.core.Advance(w, Outcome{Observed: b.kernel.State}, b.now)
	}
	t.Fatal("the address never came")
}

func TestAuditsBeginASyncPeriodApartHoweverLongTheyTake(t *testing.T) {
	for _, c := range []struct{ takes, after time.Duration }{
		{0, 30 * time.Second},
		{20 * time.Second, 30 * time.Second},
		{40 * time.Second, 41 * time.Second}, // not at once: there may be something to write
	} {
		b := newBench(nil)
		b.step(Synced{})
		began := b.now
		w := b.core.Ready(b.now)
		if !w.Audit {
			t.Fatal("no audit at the start")
		}
		b.now = b.now.Add(c.takes)
		b.core.Advance(w, Outcome{}, b.now)
		b.settle(t)
		if after := b.core.Wake().Sub(began); after != c.after {
			t.Errorf("an audit of %v: the next begins after %v, want %v", c.takes, after, c.after)
		}
	}
}
