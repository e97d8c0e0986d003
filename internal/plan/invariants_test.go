// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// checkInvariants checks what is true of every fragment.
func checkInvariants(t testing.TB, f plan.Fragment) {
	t.Helper()
	// The way through maps and back sorts rows and drops repeated keys.
	again := state.FragmentOf(f.State(), f.Notes)
	again.HealthCheck, again.DrainTimeout, again.Drains, again.Forwards = f.HealthCheck, f.DrainTimeout, f.Drains, f.Forwards
	again.Ranks, again.Refused = f.Ranks, slices.SortedFunc(slices.Values(f.Refused), netip.Addr.Compare)
	if !slices.Equal(again.Refused, slices.Compact(slices.Clone(again.Refused))) {
		t.Errorf("an address is refused twice: %v", f.Refused)
	}
	if !reflect.DeepEqual(again, f) {
		t.Errorf("fragment is not sorted or has a key twice (-want +got):\n%s", cmp.Diff(text(again), text(f)))
	}
	s := f.State()
	for k, v := range s.Entries {
		checkEntry(t, s, k, v)
	}
	for k, v := range s.VirtualServers {
		checkServer(t, s, k, v)
	}
	for k, v := range s.RealServers {
		checkRealServer(t, s, k, v)
	}
	for i, r := range f.Ranks {
		if _, served := s.VirtualServers[r.Key]; !served || r.Value == state.Allocated || i > 0 && f.Ranks[i-1].Key.Compare(r.Key) >= 0 {
			t.Errorf("rank %v of %v is of no virtual server, none, or out of order", r.Value, r.Key)
		}
	}
	for a := range s.Addresses {
		if !entered(s, plan.SetNames(state.FamilyOf(a.Addr)), state.SetEntry{Address: a.Addr}) {
			t.Errorf("address %v is in no set of addresses", a)
		}
	}
	for _, n := range f.Notes {
		if n.Reason == 0 || n.Message == "" || n.Field == "" && n.Reason != state.TooLong {
			t.Errorf("note says little: %+v", n)
		}
	}
}

// entered reports whether the entry is in one of the sets.
func entered(s state.State, sets []state.SetName, e state.SetEntry) bool {
	return slices.ContainsFunc(sets, func(n state.SetName) bool {
		for _, w := range state.Firewalls() {
			e.Set = n.On(w)
			if _, ok := s.Entries[e]; ok {
				return true
			}
		}
		return false
	})
}

func checkEntry(t testing.TB, s state.State, k state.SetEntry, v state.Entry) {
	t.Helper()
	if !plan.OurSet(k.Set) {
		t.Errorf("entry %v is in a set that is not ours", k)
	}
	if k.Address.IsValid() && !slices.Contains(plan.SetNames(state.FamilyOf(k.Address)), k.Set.Bare()) {
		t.Errorf("entry %v is in a set of the other family", k)
	}
	if back, err := state.ParseSetEntry(k.String()); err != nil || back != k {
		t.Errorf("entry %v is read as %v, %v", k, back, err)
	}
	if to, leads := k.LeadsTo(v); leads {
		if _, there := s.VirtualServers[to]; !there {
			t.Errorf("entry %v leads to %v, which is not there", k, to)
		}
	}
	if v.Mark != 0 {
		t.Errorf("entry %v gives mark %d", k, v.Mark)
	}
	if v.Comment == "" || len(v.Comment) > 255 {
		t.Errorf("entry %v has a comment of %d bytes", k, len(v.Comment))
	}
}

func checkServer(t testing.TB, s state.State, k state.VirtualServerKey, v state.VirtualServer) {
	t.Helper()
	owned := slices.ContainsFunc(plan.ServerEntries(k), func(e state.SetEntry) bool {
		_, ok := s.Entries[e]
		return ok
	})
	if !owned || k.Mark != 0 {
		t.Errorf("virtual server %v has no entry that says it is ours, or a mark", k)
	}
	joined := state.JoinedNetwork(k.Family()).Contains(k.Address.Addr())
	if k.Address.Port() == 0 && !joined || int(v.Prefix) != k.Family().Bits() || v.Scheduler == "" {
		t.Errorf("virtual server %v is incomplete: %+v", k, v)
	}
	if (v.Flags&state.Persistent != 0) != (v.Timeout > 0) {
		t.Errorf("virtual server %v: persistence and its time don't agree: %+v", k, v)
	}
	if back, err := state.ParseVirtualServerKey(k.String()); err != nil || back != k {
		t.Errorf("virtual server %v is read as %v, %v", k, back, err)
	}
}

func checkRealServer(t testing.TB, s state.State, k state.RealServerKey, v state.RealServer) {
	t.Helper()
	if _, ok := s.VirtualServers[k.Server]; !ok {
		t.Errorf("real server %v is of no virtual server", k)
	}
	if state.FamilyOf(k.Address.Addr()) != k.Server.Family() {
		t.Errorf("real server %v is of the other family", k)
	}
	if (k.Address.Port() == 0) != (k.Server.Address.Port() == 0) || v.Weight == 0 || v != (state.RealServer{Weight: v.Weight, Method: state.Masquerade}) {
		t.Errorf("real server %v is not as all are: %+v", k, v)
	}
}
