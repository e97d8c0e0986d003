// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"maps"
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The cases of what a set can hold, in which the firewalls differ.

func (c contract) headerKeepsEntries(t *testing.T) {
	rows := c.setRows()
	maps.Copy(rows.Chains, c.chainTable().rows) // a set that is in use
	b := c.begin(t, rows)
	larger, bare := map[state.SetName]state.Set{}, map[state.SetName]state.Set{}
	for k, v := range rows.Sets {
		if v.MaxElem > 0 {
			v.MaxElem = 5000
		}
		larger[k] = v
		v.Comment, v.Marks = false, false
		bare[k] = v
	}
	b.does("updating headers", setHeaders(larger))
	for k := range rows.Entries {
		b.want.Entries[k] = state.Entry{} // there is no room for comments and marks
	}
	b.does("updating headers to those without comments and marks", setHeaders(bare))
	b.does("updating headers to those with comments and marks", setHeaders(larger))
	small := map[state.SetName]state.Set{}
	for k, v := range rows.Sets {
		if v.Type == state.HashIPPort {
			v.MaxElem = 2
			small[k] = v
		}
	}
	r := b.Sets.Apply(context.Background(), setHeaders(small).Sets)
	if len(r.Failed) != len(small) {
		t.Errorf("updating headers to those that hold fewer entries than there are: %v", r)
	}
	b.isAsWanted("a refused update")
}

func (c contract) setKeepsType(t *testing.T) {
	b := c.begin(t, c.setRows())
	good := c.named("KUBE-GOOD")
	d := diff.Delta[state.SetName, state.Set]{
		Update: []diff.Change[state.SetName, state.Set]{
			{Key: c.set(state.IPv4, state.HashIP), New: state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 9}},
			{Key: c.set(state.IPv6, state.HashIP), New: state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 9}},
		},
		Add: []diff.Row[state.SetName, state.Set]{
			{Key: c.set(state.IPv4, state.HashIPPort), Value: state.Set{Type: state.BitmapPort}},
			{Key: good, Value: state.Set{Type: state.BitmapPort}},
		},
	}
	b.want.Sets[good] = state.Set{Type: state.BitmapPort}
	r := b.Sets.Apply(context.Background(), d)
	if len(r.Failed) != 3 || r.Failed[good] != nil {
		t.Errorf("failed: %v, want the three whose type or family can't change", r.Failed)
	}
	b.isAsWanted("sets were to change type or family")
}

// fullSet also shows that removed entries make room for those that are added.
func (c contract) fullSet(t *testing.T) {
	rows := state.New()
	for _, f := range families() {
		rows.Sets[c.set(f, state.HashIP)] = state.Set{Type: state.HashIP, Family: f, MaxElem: 2}
	}
	b := c.begin(t, rows)
	row := func(f state.Family, n int) diff.Row[state.SetEntry, state.Entry] {
		return diff.Row[state.SetEntry, state.Entry]{Key: state.SetEntry{Set: c.set(f, state.HashIP), Address: address(f, services, n)}}
	}
	for _, f := range families() {
		type d = diff.Delta[state.SetEntry, state.Entry]
		b.does("filling a set", state.Delta{Entries: d{Add: []diff.Row[state.SetEntry, state.Entry]{row(f, 1), row(f, 2)}}})
		r := b.Entries.Apply(context.Background(), d{Add: []diff.Row[state.SetEntry, state.Entry]{row(f, 2), row(f, 3)}})
		if r.Failed[row(f, 3).Key] == nil || len(r.Failed) != 1 || r.Drift != 1 {
			t.Errorf("adding to a full set: %+v, want one failure and one drift", r)
		}
		b.isAsWanted("adding to a full set")
		r = b.Entries.Apply(context.Background(), d{
			Remove: []diff.Row[state.SetEntry, state.Entry]{row(f, 1)},
			Add:    []diff.Row[state.SetEntry, state.Entry]{row(f, 3)},
		})
		if len(r.Failed) > 0 || r.Drift != 0 {
			t.Errorf("exchanging an entry of a full set: %+v", r)
		}
		delete(b.want.Entries, row(f, 1).Key)
		b.want.Entries[row(f, 3).Key] = state.Entry{}
		b.isAsWanted("exchanging an entry of a full set")
	}
}

// typeKeepsEntries changes the types of sets that rules look into. nftables has no other header than one of another
// type.
func (c contract) typeKeepsEntries(t *testing.T) {
	rows := c.setRows()
	other := map[state.SetName]state.Set{}
	for _, f := range families() {
		for from, to := range map[state.SetType]state.SetType{
			state.HashIPPortIP:    state.HashIPPortNet,
			state.HashIPPortNet:   state.HashIPPortIP,
			state.MapIPPortToPort: state.HashIPPort,
			state.MapIPPortToIP:   state.HashIPPort,
		} {
			other[c.set(f, from)] = c.header(f, to)
		}
		rows.Chains[state.ChainKey{Family: f, Table: c.rules(state.NAT), Name: "KUBE-A"}] = state.ChainOf(
			"-m set --match-set "+string(c.set(f, state.HashIPPortIP))+" dst,dst,src -j RETURN",
			"-m set --match-set "+string(c.set(f, state.MapIPPortToPort))+" dst,dst -j RETURN")
		rows.Chains[state.ChainKey{Family: f, Table: c.rules(state.Filter), Name: "KUBE-B"}] = state.ChainOf(
			"-m set --match-set "+string(c.set(f, state.HashIPPortNet))+" dst,dst,src -j DROP",
			"-m set --match-set "+string(c.set(f, state.MapIPPortToIP))+" dst,dst -j RETURN")
	}
	b := c.begin(t, rows)
	maps.DeleteFunc(b.want.Entries, func(e state.SetEntry, _ state.Entry) bool {
		return other[e.Set].Type == state.HashIPPortIP && !e.Source.IsSingleIP()
	})
	b.does("updating types", setHeaders(other))
	same := map[state.SetName]state.Set{}
	for n := range other {
		same[n] = rows.Sets[n]
	}
	b.does("updating types to what they were", setHeaders(same))
}

func setHeaders(to map[state.SetName]state.Set) state.Delta {
	return state.Delta{Sets: diff.Delta[state.SetName, state.Set]{Update: updates(diff.Of(nil, to, state.SetName.Compare).Add)}}
}

// overlap: a set of nftables has no two networks that overlap, but a change can put one in the place of others.
func (c contract) overlap(t *testing.T) {
	b := c.begin(t, c.setRows())
	type d = diff.Delta[state.SetEntry, state.Entry]
	row := func(source string) diff.Row[state.SetEntry, state.Entry] {
		return diff.Row[state.SetEntry, state.Entry]{
			Key: state.SetEntry{Set: c.set(state.IPv4, state.HashIPPortNet), Address: address(state.IPv4, services, 7),
				Protocol: state.TCP, Port: 80, Source: netip.MustParsePrefix(source)},
			Value: state.Entry{Comment: "shop/web:http"},
		}
	}
	wide, narrow, others := row("10.0.0.0/8"), row("10.1.0.0/16"), row("11.0.0.0/8")
	add := []diff.Row[state.SetEntry, state.Entry]{narrow, others}
	b.does("adding a network", state.Delta{Entries: d{Add: []diff.Row[state.SetEntry, state.Entry]{wide}}})
	r := b.Entries.Apply(context.Background(), d{Add: add})
	if len(r.Failed) != 1 || r.Failed[narrow.Key] == nil {
		t.Errorf("adding a network inside of one that is there: %+v, want it to fail alone", r)
	}
	b.want.Entries[others.Key] = others.Value
	b.isAsWanted("adding a network inside of one that is there")
	for range 2 {
		Apply(t, b.Entries, d{Remove: []diff.Row[state.SetEntry, state.Entry]{wide}, Add: []diff.Row[state.SetEntry, state.Entry]{narrow}}, 0)
		delete(b.want.Entries, wide.Key)
		b.want.Entries[narrow.Key] = narrow.Value
		b.isAsWanted("exchanging networks that overlap")
		wide, narrow = narrow, wide
	}
}
