// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func serverKey(n byte) state.VirtualServerKey {
	return state.VirtualServerKey{
		Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, n}), 80),
		Protocol: state.TCP,
	}
}

func endpointKey(n, endpoint byte) state.RealServerKey {
	return state.RealServerKey{
		Server:  serverKey(n),
		Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, endpoint}), 8080),
	}
}

// service is a fragment with one virtual server and some real servers.
func service(scheduler string, server byte, endpoints ...byte) state.Fragment {
	var f state.Fragment
	f.VirtualServers = []diff.Row[state.VirtualServerKey, state.VirtualServer]{
		{Key: serverKey(server), Value: state.VirtualServer{Scheduler: scheduler}},
	}
	f.Addresses = []diff.Row[state.Address, state.Binding]{{Key: state.Address{Addr: serverKey(server).Address.Addr()}}}
	slices.Sort(endpoints)
	for _, e := range slices.Compact(endpoints) {
		f.RealServers = append(f.RealServers, diff.Row[state.RealServerKey, state.RealServer]{
			Key: endpointKey(server, e), Value: state.RealServer{Weight: 1},
		})
	}
	return f
}

// steered is f with a virtual server behind a mark as well, and an entry that steers to it.
func steered(f state.Fragment, mark uint32, front byte, endpoints ...byte) state.Fragment {
	s, k := f.State(), state.MarkKey(state.IPv4, mark)
	s.VirtualServers[k] = state.VirtualServer{Scheduler: "rr"}
	for _, e := range endpoints {
		s.RealServers[state.RealServerKey{Server: k, Address: endpointKey(0, e).Address}] = state.RealServer{Weight: 2}
	}
	a := serverKey(front).Address
	s.Entries[state.SetEntry{Set: "MARK", Address: a.Addr(), Protocol: state.TCP, Port: a.Port()}] = state.Entry{Mark: mark}
	s.Entries[state.SetEntry{Set: "PLAIN", Address: a.Addr()}] = state.Entry{Comment: f.VirtualServers[0].Value.Scheduler}
	return state.FragmentOf(s, nil)
}

var (
	early = time.Unix(1000, 0)
	late  = time.Unix(2000, 0)
	old   = Owner{"shop", "zebra"}
	young = Owner{"shop", "ant"}
)

func TestTheOlderOfTwoServicesWinsAnAddressWhicheverComesFirst(t *testing.T) {
	for _, order := range [][]Owner{{old, young}, {young, old}} {
		d := New()
		var conflicts []Conflict
		for _, o := range order {
			created, f := early, service("rr", 1, 1, 2)
			if o == young {
				created, f = late, service("lc", 1, 2, 3)
			}
			conflicts = append(conflicts, d.Upsert(o, created, f).Conflicts...)
		}
		want := service("rr", 1, 1, 2).State()
		if diff := cmp.Diff(want, d.State(), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("order %v (-want +got):\n%s", order, diff)
		}
		if diff := cmp.Diff([]Conflict{{Key: serverKey(1), Winner: old, Loser: young}}, conflicts, cmpopts.EquateComparable(state.VirtualServerKey{})); diff != "" {
			t.Errorf("order %v: conflicts (-want +got):\n%s", order, diff)
		}
	}
}

func TestTheLoserGetsTheAddressWhenTheWinnerLeaves(t *testing.T) {
	d := New()
	d.Upsert(old, early, service("rr", 1, 1, 2))
	d.Upsert(young, late, service("lc", 1, 2, 3))
	touched := d.Delete(old)
	was := state.Reals{state.RealOf(endpointKey(1, 1).Address, state.RealServer{Weight: 1}), state.RealOf(endpointKey(1, 2).Address, state.RealServer{Weight: 1})}
	if got := touched.RealServers; len(got) != 1 || got[0].Server != serverKey(1) || !slices.Equal(got[0].Reals, was) {
		t.Errorf("touched real servers were %v, want %v", got, was)
	}
	if _, ok := d.RealServers.Get(endpointKey(1, 1)); ok {
		t.Error("the winner's endpoint is still desired after it left")
	}
	if v, _ := d.VirtualServers.Get(serverKey(1)); v.Scheduler != "lc" {
		t.Errorf("scheduler %q, want that of the remaining Service, lc", v.Scheduler)
	}
}

func TestAServiceMadeAnewLosesItsSeniority(t *testing.T) {
	d := New()
	d.Upsert(old, early, service("rr", 1, 1))
	d.Upsert(young, late, service("lc", 1, 2))
	d.Upsert(old, late.Add(time.Hour), service("rr", 1, 1))
	if v, _ := d.VirtualServers.Get(serverKey(1)); v.Scheduler != "lc" {
		t.Errorf("scheduler %q, want lc of the Service that is now the older", v.Scheduler)
	}
}

func TestAnEqualFragmentTouchesNothing(t *testing.T) {
	d := New()
	d.Upsert(old, early, service("rr", 1, 1, 2))
	if touched := d.Upsert(old, early, service("rr", 1, 1, 2)); len(touched.VirtualServers)+len(touched.RealServers)+len(touched.Addresses) != 0 {
		t.Errorf("touched %v", touched)
	}
}

// TestRandomChangesEqualAMergeFromScratch walks through random upserts and deletes of Services that fight over few
// addresses. The desired state must always be what a new Desired makes of the same fragments, and the touched rows
// alone must bring a copy up to date.
func TestRandomChangesEqualAMergeFromScratch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	d, copied := New(), state.New()
	type claim struct {
		created  time.Time
		fragment state.Fragment
	}
	fragments := map[Owner]claim{}
	for step := range 5000 {
		o := Owner{"ns", fmt.Sprint(random.IntN(6))}
		var touched Touched
		if random.IntN(4) == 0 {
			delete(fragments, o)
			touched = d.Delete(o)
		} else {
			endpoints := make([]byte, random.IntN(4))
			for i := range endpoints {
				endpoints[i] = byte(random.IntN(5))
			}
			f := service([]string{"rr", "lc"}[random.IntN(2)], byte(random.IntN(3)), endpoints...)
			if random.IntN(2) == 0 {
				f = steered(f, uint32(random.IntN(2)+1), byte(random.IntN(3)), endpoints...)
			}
			f = ranked(guarded(f, o, random.IntN(3)), state.Rank(random.IntN(3)))
			w := claim{time.Unix(int64(random.IntN(3)), 0), f}
			fragments[o] = w
			touched = d.Upsert(o, w.created, w.fragment)
		}
		update(t, copied.VirtualServers, touched.VirtualServers, d.VirtualServers.Get)
		update(t, copied.Entries, touched.Entries, d.Entries.Get)
		update(t, copied.Addresses, touched.Addresses, d.Addresses.Get)
		updateReals(t, copied.RealServers, touched.RealServers, d.RealServers)

		scratch := New()
		for o, w := range fragments {
			scratch.Upsert(o, w.created, w.fragment)
		}
		if delta := state.Diff(d.State(), scratch.State()); delta.Len() != 0 {
			t.Fatalf("step %d: the merged state differs from a merge from scratch: %+v", step, delta)
		}
		if delta := state.Diff(copied, d.State()); delta.Len() != 0 {
			t.Fatalf("step %d: touched rows missed %+v", step, delta)
		}
		if n := len(copied.Entries); d.Entries.Len() != n {
			t.Fatalf("step %d: %d entries are desired, said to be %d", step, n, d.Entries.Len())
		}
		checkGuards(t, d)
	}
}

// checkGuards checks that who may come to a virtual server is said by its owner alone.
func checkGuards(t *testing.T, d *Desired) {
	t.Helper()
	for e, v := range d.Entries.All() {
		k, about := e.Server()
		if o, desired := d.VirtualServers.Owner(k); about && e.Set == "GUARD" && (!desired || o.Name != v.Comment) {
			t.Fatalf("%v of %s counts, but %v has the virtual server (%v)", e, v.Comment, o, desired)
		}
	}
}

// update brings touched rows up to date, and checks what they are said to have been.
func update[K, V comparable](t *testing.T, table map[K]V, touched []Was[K, V], get func(K) (V, bool)) {
	t.Helper()
	for _, w := range touched {
		if v, there := table[w.Key]; v != w.Value || there != w.There {
			t.Fatalf("%v was %v %v, but is said to have been %v %v", w.Key, there, v, w.There, w.Value)
		}
	}
	for _, w := range touched {
		if v, ok := get(w.Key); ok {
			table[w.Key] = v
		} else {
			delete(table, w.Key)
		}
	}
}

func updateReals(t *testing.T, table map[state.RealServerKey]state.RealServer, touched []WereReals, now RealServers) {
	t.Helper()
	for _, w := range touched {
		size := len(table)
		for _, r := range w.Reals {
			if v, there := table[r.Key(w.Server)]; !there || v != r.Value() {
				t.Fatalf("%v was %v %v, but is said to have been %v", r.Key(w.Server), there, v, r.Value())
			}
			delete(table, r.Key(w.Server))
		}
		if len(table) != size-len(w.Reals) {
			t.Fatalf("%v is said to have had a real server twice: %v", w.Server, w.Reals)
		}
		for _, r := range now.Of(w.Server) {
			table[r.Key(w.Server)] = r.Value()
		}
	}
	if len(table) != now.Len() {
		t.Fatalf("%d real servers are desired, said to be %d", len(table), now.Len())
	}
}
