// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"iter"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type (
	serverTable = Table[state.VirtualServerKey, state.VirtualServer]
	entryTable  = Table[state.SetEntry, state.Entry]
	serverDelta = diff.Delta[state.VirtualServerKey, state.VirtualServer]
	entryDelta  = diff.Delta[state.SetEntry, state.Entry]
)

// Entries are the desired set entries. One that is about a virtual server, or leads packets to one, counts only if its
// owner also won that virtual server.
type Entries struct {
	servers serverTable
	claims  entryTable
	unowned *int // rows that are claimed, and of which no claim counts
}

// Get is the desired value of the row k, and whether the row is desired at all: the value of the first claimant whose
// claim counts.
func (t Entries) Get(k state.SetEntry) (state.Entry, bool) {
	_, v, ok := t.first(k)
	return v, ok
}

// Owner is the owner of the row k, as Get finds it.
func (t Entries) Owner(k state.SetEntry) (Owner, bool) {
	c, _, ok := t.first(k)
	if !ok {
		return Owner{}, false
	}
	return c.owner, true
}

func (t Entries) first(k state.SetEntry) (*claimant, state.Entry, bool) {
	c, claimed := t.claims.winners[k]
	if !claimed {
		return nil, state.Entry{}, false
	}
	return t.foremost(k, c)
}

// foremost is the first claimant whose claim counts; c is the first of all.
func (t Entries) foremost(k state.SetEntry, c *claimant) (*claimant, state.Entry, bool) {
	if v := t.claims.value(c, k); t.counts(k, v, c) {
		return c, v, true
	}
	for _, c := range t.claims.losers[k] {
		if v := t.claims.value(c, k); t.counts(k, v, c) {
			return c, v, true
		}
	}
	return nil, state.Entry{}, false
}

func (t Entries) counts(k state.SetEntry, v state.Entry, by *claimant) bool {
	if server, leads := k.LeadsTo(v); leads && t.servers.winners[server] != by {
		return false
	}
	if len(t.servers.losers) == 0 { // as mostly
		return true
	}
	about, ok := k.Server()
	return !ok || !t.servers.lost(about, by)
}

// Len is how many rows are desired.
func (t Entries) Len() int { return t.claims.Len() - *t.unowned }

func (t Entries) collect(s *state.State)                   { s.Entries = maps.Collect(t.All()) }
func (t Entries) families(touched *Touched) state.Families { return t.claims.families(touched) }

func (t Entries) mergeFirst(a, b *Touched) { t.claims.mergeFirst(a, b) }

// All yields the desired rows in no order.
func (t Entries) All() iter.Seq2[state.SetEntry, state.Entry] {
	return func(yield func(state.SetEntry, state.Entry) bool) {
		for k, c := range t.claims.winners {
			if _, v, ok := t.foremost(k, c); ok && !yield(k, v) {
				return
			}
		}
	}
}

// contested reports whether c's change is about a virtual server that another owner claims too.
func (t Entries) contested(entries entryDelta, servers serverDelta, c *claimant) bool {
	for k := range servers.Keys() {
		if won, claimed := t.servers.winners[k]; claimed && won != c || len(t.servers.losers[k]) > 0 {
			return true
		}
	}
	if len(t.servers.losers) == 0 {
		return false
	}
	for e := range entries.Keys() {
		if k, ok := e.Server(); ok && len(t.servers.losers[k]) > 0 {
			return true
		}
	}
	return false
}

// wasEntry is what an entry was before a change, claimed or not.
type wasEntry struct {
	Was[state.SetEntry, state.Entry]
	claimed bool
}

// were are the entries that c's change can touch, as they are: its own, and those of others that depend on a virtual
// server which c comes to or leaves. An owner that neither has that virtual server nor is next in line for it has none.
func (t Entries) were(entries entryDelta, servers serverDelta, c *claimant, to holdings) []wasEntry {
	touched := slices.Collect(entries.Keys())
	changed := slices.SortedFunc(servers.Keys(), state.VirtualServerKey.Compare)
	touched = append(dependent(touched, c.entries, changed), dependent(nil, to.entries, changed)...)
	others := map[*claimant][]state.VirtualServerKey{}
	for _, k := range changed {
		for _, other := range t.servers.foremost(k) {
			if other != c {
				others[other] = append(others[other], k)
			}
		}
	}
	for other, servers := range others {
		touched = dependent(touched, other.entries, servers)
	}
	slices.SortFunc(touched, state.SetEntry.Compare)
	touched = slices.Compact(touched)
	before := make([]wasEntry, len(touched))
	for i, k := range touched {
		v, there := t.Get(k)
		_, claimed := t.claims.winners[k]
		before[i] = wasEntry{Was[state.SetEntry, state.Entry]{k, v, there}, claimed}
	}
	return before
}

// dependent adds those of the entries that depend on one of the servers, which are sorted.
func dependent(to []state.SetEntry, entries []diff.Row[state.SetEntry, state.Entry], servers []state.VirtualServerKey) []state.SetEntry {
	among := func(k state.VirtualServerKey) bool {
		_, found := slices.BinarySearchFunc(servers, k, state.VirtualServerKey.Compare)
		return found
	}
	for _, r := range entries {
		about, ok := r.Key.Server()
		server, leads := r.Key.LeadsTo(r.Value)
		if ok && among(about) || leads && among(server) {
			to = append(to, r.Key)
		}
	}
	return to
}

// since are those that are not any more as they were.
func (t Entries) since(before []wasEntry) []Was[state.SetEntry, state.Entry] {
	var touched []Was[state.SetEntry, state.Entry]
	for _, w := range before {
		v, there := t.Get(w.Key)
		_, claimed := t.claims.winners[w.Key]
		*t.unowned += one(claimed && !there) - one(w.claimed && !w.There)
		if v != w.Value || there != w.There {
			touched = append(touched, w.Was)
		}
	}
	return touched
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// RealServers are the desired real servers. They are those that the owner of their virtual server wants for it, so
// there is no table of them: to find one is to find its owner.
type RealServers struct {
	servers serverTable
	size    *int
}

// Of are the desired real servers of one virtual server.
func (t RealServers) Of(k state.VirtualServerKey) state.Reals {
	c, claimed := t.servers.winners[k]
	if !claimed {
		return nil
	}
	return c.realsOf(k)
}

// Get is the desired value of the row k, and whether the row is desired at all.
func (t RealServers) Get(k state.RealServerKey) (state.RealServer, bool) {
	return t.Of(k.Server).Find(k.Address)
}

// Owner is the owner of the row k.
func (t RealServers) Owner(k state.RealServerKey) (Owner, bool) {
	if _, desired := t.Get(k); !desired {
		return Owner{}, false
	}
	return t.servers.Owner(k.Server)
}

// Len is how many are desired.
func (t RealServers) Len() int { return *t.size }

func (t RealServers) collect(s *state.State) { s.RealServers = maps.Collect(t.All()) }

func (RealServers) families(touched *Touched) state.Families {
	found := state.NoFamily
	for _, w := range touched.RealServers {
		found |= w.Server.Families()
	}
	return found
}

func (RealServers) mergeFirst(a, b *Touched) {
	before := a.RealServers
	b.RealServers = append(before, slices.DeleteFunc(b.RealServers, func(w WereReals) bool {
		return slices.ContainsFunc(before, func(o WereReals) bool { return o.Server == w.Server })
	})...)
}

// All yields the desired rows in no order.
func (t RealServers) All() iter.Seq2[state.RealServerKey, state.RealServer] {
	return func(yield func(state.RealServerKey, state.RealServer) bool) {
		for k, c := range t.servers.winners {
			for _, r := range c.realsOf(k) {
				if !yield(r.Key(k), r.Value()) {
					return
				}
			}
		}
	}
}

// Servers yields the desired virtual servers, in no order.
func (t RealServers) Servers() iter.Seq[state.VirtualServerKey] { return maps.Keys(t.servers.winners) }

// WereReals are the real servers that were desired for a virtual server before a change.
type WereReals struct {
	Server state.VirtualServerKey
	Reals  state.Reals
}

// were is what the real servers are of the virtual servers whose real servers can be other ones when c has other
// holdings.
func (t RealServers) were(c *claimant, to holdings) []WereReals {
	var before []WereReals
	note := func(k state.VirtualServerKey) { before = append(before, WereReals{k, t.Of(k)}) }
	i, j := 0, 0
	for i < len(c.servers) && j < len(to.servers) {
		a, b := c.servers[i].Key, to.servers[j].Key
		switch order := a.Compare(b); {
		case order < 0:
			note(a)
			i++
		case order > 0:
			note(b)
			j++
		default:
			if !slices.Equal(c.reals[i], to.reals[j]) {
				note(a)
			}
			i, j = i+1, j+1
		}
	}
	for ; i < len(c.servers); i++ {
		note(c.servers[i].Key)
	}
	for ; j < len(to.servers); j++ {
		note(to.servers[j].Key)
	}
	return before
}

// since are those that are not any more as they were.
func (t RealServers) since(before []WereReals) []WereReals {
	for _, w := range before {
		*t.size += len(t.Of(w.Server)) - len(w.Reals)
	}
	return slices.DeleteFunc(before, func(w WereReals) bool { return slices.Equal(t.Of(w.Server), w.Reals) })
}
