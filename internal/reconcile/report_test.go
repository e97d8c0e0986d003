// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestWhatAnObserverGetsOfAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &works{}
		run(t, w, 0)
		w.tell(change(1, 2))
		if len(w.diary.read().changes) != 2 || w.diary.read().changes[1].Due || len(w.diary.read().balances) != 0 {
			t.Errorf("before anything may be written: %d changes, %d balances", len(w.diary.read().changes), len(w.diary.read().balances))
		}
		w.tell(Synced{})
		if got := w.diary.read().changes[2]; !got.Due || got.Families != state.BothFamilies {
			t.Errorf("when all is known: %+v", got)
		}
		if w.diary.read().acts[0].Cause != CauseStart || !w.diary.read().acts[0].Work.Audit || w.diary.read().acts[1].Cause != CauseStart {
			t.Errorf("the start was %+v", w.diary.read().acts)
		}
		w.pass(time.Second)
		began := time.Now()
		up := change(1, 3)
		up.Origin.Triggers = []Trigger{{state.IPv4, began.Add(-time.Minute)}}
		w.tell(up)
		got, b := w.diary.read().changes[3], w.diary.read().last()
		if got.Families != state.FamiliesOf(state.IPv4) || !got.Due || got.Queued != began || len(got.Owners) != 0 {
			t.Errorf("took %+v", got)
		}
		if a := w.diary.read().acts[len(w.diary.read().acts)-1]; a.Cause != CauseChange || a.Work.Delta.Counts()[state.RealServers] != (state.Count{Add: 1}) || a.Families != state.FamiliesOf(state.IPv4) {
			t.Errorf("did %+v", a)
		}
		if d := cmp.Diff([]Programmed{{Origin: up.Origin, Families: state.FamiliesOf(state.IPv4)}}, b.Programmed); d != "" {
			t.Error(d)
		}
		if b.Rows[state.RealServers] != (Rows{Desired: 3, Present: 3}) || b.Owners != 2 || b.IPv4 != (Trouble{}) || !b.Wake.After(b.At) {
			t.Errorf("balance %+v", b)
		}
		if w.diary.read().balances[0].Programmed != nil {
			t.Errorf("changes of the start are measured: %+v", w.diary.read().balances[0].Programmed)
		}
	})
}

func TestAnObserverKnowsTheOwnerOfAVirtualServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &works{}
		run(t, w, 0)
		k := server(1, state.TCP)
		older, younger := change(1, 1), change(1, 1)
		older.Created, younger.Created, younger.Owner = time.Unix(1, 0), time.Unix(2, 0), owner(2)
		w.tell(Synced{}, younger, older)
		whose := func(want ...ServerOwner) {
			t.Helper()
			if got := w.diary.read().changes[len(w.diary.read().changes)-1].Owners; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		whose(ServerOwner{k, owner(1), true})
		if w.diary.read().last().Contested != 1 {
			t.Errorf("%d contested", w.diary.read().last().Contested)
		}
		w.tell(Delete{Owner: owner(1)})
		whose(ServerOwner{k, owner(2), true})
		w.tell(Delete{Owner: owner(2)})
		whose(ServerOwner{Key: k, Owner: desired.Owner{}})
		if w.diary.read().last().Contested != 0 {
			t.Errorf("%d contested at the end", w.diary.read().last().Contested)
		}
	})
}

func TestATriggerCountsOnceWhenTheRowsAreInTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &works{}
		run(t, w, 0)
		w.refuse(server(1, state.TCP))
		w.tell(Synced{})
		at := func(n int, seconds ...int64) Upsert {
			up := change(n, len(w.diary.read().changes))
			for _, s := range seconds {
				up.Origin.Triggers = append(up.Origin.Triggers, Trigger{state.IPv4, time.Unix(s, 0)})
			}
			return up
		}
		triggers := func() []int64 {
			var all []int64
			for _, b := range w.diary.read().balances {
				for _, p := range b.Programmed {
					for _, g := range p.Origin.Triggers {
						all = append(all, g.At.Unix())
					}
				}
			}
			slices.Sort(all)
			return all
		}
		w.tell(at(1, 1), at(2, 10))
		w.tell(at(1, 2))
		if got := triggers(); !slices.Equal(got, []int64{10}) {
			t.Errorf("while rows of the first are refused: %v", got)
		}
		w.refuse()
		w.pass(time.Minute)
		if got := triggers(); !slices.Equal(got, []int64{1, 2, 10}) {
			t.Errorf("when they are there: %v", got)
		}
		w.refuse(server(1, state.TCP))
		w.tell(at(1, 3))
		anew := at(1, 4)
		anew.Origin.Anew = true
		w.tell(anew, at(2, 20))
		w.tell(Delete{Owner: owner(2)})
		w.refuse()
		w.pass(time.Minute)
		if got := triggers(); !slices.Equal(got, []int64{1, 2, 4, 10, 20}) {
			t.Errorf("when a slice left meanwhile: %v", got)
		}
	})
}

func TestOnlySeveralServicesWithoutSuccessBlockATable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &works{}
		run(t, w, 0)
		bad := []state.VirtualServerKey{server(2, state.TCP), server(3, state.TCP), server(4, state.TCP)}
		w.tell(Synced{}, change(1, 1))
		blocked := func(when string, refused int, since time.Time) {
			t.Helper()
			b := w.diary.read().last()
			if b.IPv4.Refused != refused || b.IPv4.Blocked != since || b.IPv6 != (Trouble{}) {
				t.Errorf("%s: %+v, want %d refused and blocked since %v", when, b.IPv4, refused, since)
			}
		}
		w.refuse(bad[:1]...)
		w.pass(time.Second)
		first := time.Now()
		w.tell(change(2, 3))
		blocked("one odd Service", 3, time.Time{})
		w.pass(time.Hour)
		blocked("for long", 3, time.Time{})
		if w.diary.read().last().IPv4.Since != first {
			t.Errorf("refused since %v, want %v", w.diary.read().last().IPv4.Since, first)
		}

		w.refuse(bad[:2]...)
		second := time.Now()
		w.tell(change(3, 1))
		blocked("a second one", 4, second)
		w.pass(time.Minute)
		blocked("still", 4, second)
		w.tell(change(1, 2))
		blocked("another gets through", 4, time.Time{})

		w.refuse(bad...)
		w.pass(time.Second)
		w.tell(change(4, 1))
		blocked("a third one, alone since then", 5, time.Time{})
		w.refuse()
		w.pass(time.Minute)
		blocked("all get through", 0, time.Time{})
	})
}
