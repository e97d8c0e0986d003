// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ranked is f with its virtual server without a mark claimed by a right.
func ranked(f state.Fragment, r state.Rank) state.Fragment {
	for _, row := range f.VirtualServers {
		if r != state.Allocated && row.Key.Mark == 0 {
			f.Ranks = append(f.Ranks, diff.Row[state.VirtualServerKey, state.Rank]{Key: row.Key, Value: r})
		}
	}
	return f
}

// guarded is f with entries of o about its virtual servers without a mark: each lets one source in.
func guarded(f state.Fragment, o Owner, sources int) state.Fragment {
	for _, row := range f.VirtualServers {
		for i := range sources {
			a := row.Key.Address
			e := state.SetEntry{Set: "GUARD", Address: a.Addr(), Protocol: row.Key.Protocol, Port: a.Port()}
			e.Source = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
			if row.Key.Mark == 0 {
				f.Entries = append(f.Entries, diff.Row[state.SetEntry, state.Entry]{Key: e, Value: state.Entry{Comment: o.Name}})
			}
		}
	}
	slices.SortFunc(f.Entries, func(a, b diff.Row[state.SetEntry, state.Entry]) int { return a.Key.Compare(b.Key) })
	return f
}

func TestWhatTheAPIServerGaveIsNotTakenByWhatAnOlderServiceNames(t *testing.T) {
	ranks := []state.Rank{state.Allocated, state.Balanced, state.External}
	for i, better := range ranks {
		for _, worse := range ranks[i+1:] {
			for _, first := range []Owner{old, young} {
				d := New()
				var found []Conflict
				for _, o := range []Owner{first, young, old} { // the first again: nothing new
					created, f := early, ranked(guarded(service("rr", 1, 1), old, 2), worse)
					if o == young {
						created, f = late, ranked(guarded(service("lc", 1, 2), young, 1), better)
					}
					found = append(found, d.Upsert(o, created, f).Conflicts...)
				}
				if o, _ := d.VirtualServers.Owner(serverKey(1)); o != young {
					t.Errorf("%v, younger, against %v: won by %v", better, worse, o)
				}
				if o, _ := d.Addresses.Owner(state.Address{Addr: serverKey(1).Address.Addr()}); o != young {
					t.Errorf("%v, younger, against %v: the address is %v's", better, worse, o)
				}
				if len(d.State().Entries) != 1 {
					t.Errorf("%v, younger, against %v: entries %v, want the winner's one", better, worse, d.State().Entries)
				}
				checkGuards(t, d)
				want := Conflict{Key: serverKey(1), Winner: young, Loser: old, WinnerRank: better, LoserRank: worse}
				if len(found) != 1 || found[0] != want || !slices.Equal(d.Conflicts(), found) {
					t.Errorf("found %v, there are %v, want %v once", found, d.Conflicts(), want)
				}
				if text := want.String(); !strings.Contains(text, better.String()) || !strings.Contains(text, worse.String()) {
					t.Errorf("the text of the conflict is %q", text)
				}
			}
		}
	}
}

func TestAClaimByAnotherRightIsMadeAnew(t *testing.T) {
	d := New()
	d.Upsert(old, early, ranked(service("rr", 1, 1), state.External))
	d.Upsert(young, late, ranked(service("lc", 1, 2), state.Balanced))
	for _, step := range []struct {
		rank state.Rank
		want Owner
	}{{state.Balanced, old}, {state.External, young}, {state.Allocated, old}} {
		touched := d.Upsert(old, early, ranked(service("rr", 1, 1), step.rank))
		if o, _ := d.VirtualServers.Owner(serverKey(1)); o != step.want {
			t.Errorf("older one as %v: won by %v, want %v", step.rank, o, step.want)
		}
		if len(touched.VirtualServers) != 1 || len(touched.Conflicts) != 1 {
			t.Errorf("older one as %v: touched %+v, want the virtual server and its conflict", step.rank, touched)
		}
	}
	if touched := d.Upsert(old, early, service("rr", 1, 1)); len(touched.VirtualServers) != 0 {
		t.Errorf("the same again touched %+v", touched)
	}
}

func TestTheLoserOfAnAddressKeepsItsOtherPorts(t *testing.T) {
	other := serverKey(1)
	other.Address = netip.AddrPortFrom(other.Address.Addr(), 443)
	f := service("rr", 1, 1)
	f.VirtualServers = append(f.VirtualServers, diff.Row[state.VirtualServerKey, state.VirtualServer]{Key: other, Value: state.VirtualServer{Scheduler: "rr"}})
	d := New()
	d.Upsert(old, early, ranked(guarded(f, old, 2), state.External))
	d.Upsert(young, late, guarded(service("lc", 1, 2), young, 1))
	if o, _ := d.VirtualServers.Owner(other); o != old {
		t.Errorf("the port that the winner does not have is %v's, want the loser's", o)
	}
	if n := len(d.State().Entries); n != 3 {
		t.Errorf("%d entries, want the winner's one and the loser's two of the other port", n)
	}
}
