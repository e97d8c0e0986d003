// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// group is rows that are marked together. What depends on each other is in one: the rows that one Service's change
// touched, and those of all Services that share a virtual server with it, or an address that is to come or go.
type group struct {
	owners    []desired.Owner // none: rows that are not desired
	entries   []state.SetEntry
	servers   []state.VirtualServerKey // and their real servers
	addresses []state.Address
	rows      int // about so many have to be written

	number  uint64 // in the order in which groups came
	class   int    // the queue it waits in
	trimmed int    // entries that are there once
	started bool   // of a group that is too large: what comes first has been marked
	leaving bool   // ... and what leaves before real servers do
	place   place
	seen    uint64 // the last search that found it
}

// place is where a group is.
type place uint8

const (
	queued place = iota
	led          // its first entries have been marked, and all else is to be next
	gone
)

// queue are the groups that wait. A change of many rows takes the kernel seconds. So that a small one need not wait for
// it, rows of Services are not marked at once, but some thousand at a time, and the smallest changes first. The order
// in which packets need rows is that of one delta (kernel.Tables), so a group is marked as a whole.
type queue struct {
	byOwner   shrinkingMap[desired.Owner, *group]
	byServer  shrinkingMap[state.VirtualServerKey, *group]
	byAddress shrinkingMap[state.Address, *group]

	rest []*group // that are led; some may wait again, or be gone

	size   int               // groups that wait
	number uint64            // of the last group that came
	search uint64            // of the last search for related groups
	ages   []*group          // the oldest first; some may not wait any more
	sizes  [classes][]*group // by the number of bits of rows; some may be elsewhere or not wait any more
}

const classes = 32

// reserve makes room for the groups of so many virtual servers.
func (b *queue) reserve(servers int) {
	b.byOwner.reserve(servers)
	b.byServer.reserve(servers)
	b.byAddress.reserve(servers)
}

// put adds a group to those that it depends on, or queues it by itself. One that is led waits again: what has come may
// have to be led too.
func (b *queue) put(g group) {
	if len(g.entries)+len(g.servers)+len(g.addresses) == 0 {
		return
	}
	related := b.related(&g)
	if len(related) == 0 {
		b.number++
		related = append(related, &group{number: b.number, place: gone})
	}
	into := related[0]
	b.enqueue(into)
	for _, other := range related[1:] {
		b.remove(other)
		b.move(other, into)
	}
	b.move(&g, into)
	b.classify(into)
}

// enqueue makes a group wait, in the place that its age gives it.
func (b *queue) enqueue(g *group) {
	if g.place == queued {
		return
	}
	g.place, g.class = queued, -1
	b.size++
	at, there := slices.BinarySearchFunc(b.ages, g, byAge)
	if !there {
		b.ages = slices.Insert(b.ages, at, g)
	}
}

func byAge(a, b *group) int { return cmp.Compare(a.number, b.number) }

// classify puts a group into the queue of its size.
func (b *queue) classify(g *group) {
	if class := min(bits.Len(uint(max(g.rows, 0))), classes-1); class != g.class {
		g.class = class
		b.sizes[class] = append(b.sizes[class], g)
	}
}

// recount puts all groups into the queues of their sizes anew.
func (b *queue) recount(count func(*group) int) {
	for _, g := range b.ages {
		if g.place == queued {
			g.rows = count(g)
			b.classify(g)
		}
	}
}

// related are the groups that g depends on, or that depend on it, the oldest first.
func (b *queue) related(g *group) []*group {
	var found []*group
	b.search++
	see := func(other *group, there bool) {
		if there && other.seen != b.search {
			other.seen = b.search
			found = append(found, other)
		}
	}
	for _, o := range g.owners {
		see(b.byOwner.get(o))
	}
	for _, a := range g.addresses {
		see(b.byAddress.get(a))
	}
	for _, k := range g.servers {
		see(b.byServer.get(k))
		see(b.byAddress.get(state.Address{Addr: k.Address.Addr()}))
	}
	slices.SortFunc(found, byAge)
	return found
}

// move gives all that is in one group to another.
func (b *queue) move(from, into *group) {
	into.owners = claim(&b.byOwner, from.owners, into.owners, into)
	into.servers = claim(&b.byServer, from.servers, into.servers, into)
	into.addresses = claim(&b.byAddress, from.addresses, into.addresses, into)
	if into.entries == nil {
		into.entries = from.entries
	} else {
		into.entries = append(into.entries, from.entries...)
	}
	into.trim()
	into.rows += from.rows
	into.started, into.leaving = false, false
}

// claim adds to a list of a group the keys that are not in it.
func claim[K comparable](index *shrinkingMap[K, *group], keys, list []K, g *group) []K {
	if list == nil {
		list = keys[:0]
	}
	for _, k := range keys {
		if other, _ := index.get(k); other != g {
			index.put(k, g)
			list = append(list, k)
		}
	}
	return list
}

// trim keeps a Service that changes all the time while it waits from having an entry over and over again.
func (g *group) trim() {
	const few = 32
	if len(g.entries) < 2*g.trimmed+few {
		return
	}
	slices.SortFunc(g.entries, state.SetEntry.Compare)
	g.entries = slices.Compact(g.entries)
	g.trimmed = len(g.entries)
}

// lead takes a group out of the queues while its first entries are written. What depends on it still finds it.
func (b *queue) lead(g *group) {
	b.dequeue(g, led)
	b.rest = append(b.rest, g)
}

// remove takes a group off.
func (b *queue) remove(g *group) {
	b.dequeue(g, gone)
	for _, o := range g.owners {
		b.byOwner.drop(o)
	}
	for _, k := range g.servers {
		b.byServer.drop(k)
	}
	for _, a := range g.addresses {
		b.byAddress.drop(a)
	}
}

func (b *queue) dequeue(g *group, to place) {
	if g.place == queued {
		b.size--
	}
	if g.place = to; b.size == 0 {
		b.ages, b.sizes = nil, [classes][]*group{}
	}
}

func (b *queue) empty() bool { return b.size+len(b.rest) == 0 }

// smallest is a group than which none is much smaller, nil if there is none.
func (b *queue) smallest() *group {
	for class := range b.sizes {
		for queue := &b.sizes[class]; len(*queue) > 0; *queue = (*queue)[1:] {
			if g := (*queue)[0]; g.place == queued && g.class == class {
				return g
			}
		}
	}
	return nil
}

// oldest is the group that waits for longest, nil if there is none.
func (b *queue) oldest() *group {
	for ; len(b.ages) > 0; b.ages = b.ages[1:] {
		if g := b.ages[0]; g.place == queued {
			return g
		}
	}
	return nil
}
