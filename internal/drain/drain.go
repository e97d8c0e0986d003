// SPDX-License-Identifier: Apache-2.0

// Package drain decides what becomes of a real server that is no longer wanted: it takes no new connections (weight 0),
// stays while it has old ones, and leaves when they are gone or its deadline has passed. It is pure; who reads the
// connections and removes the row is reconcile's business.
//
// kube-proxy keeps such a server for as long as any connection lives, looks once a minute and forgets its list at a
// restart (kubernetes#90188, #81775). Here the kernel row itself, at weight 0, is the memory.
package drain

import (
	"container/heap"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Drains reports whether the real servers of k are worth draining. TCP has connections that end; but the flows of a
// dead UDP or SCTP endpoint would go on into nothing for as long as the client keeps its port. The endpoints of a
// virtual server with a mark are not dead: older versions made it, and another takes its place.
func Drains(k state.VirtualServerKey) bool { return k.Transport() == state.TCP || k.Mark != 0 }

// Book is the list of draining real servers. The zero Book is empty.
type Book struct {
	rows      map[state.VirtualServerKey]map[state.RealServerKey]*row
	addresses map[netip.Addr]int // how many real servers drain behind it
	deadlines deadlines
}

// row is one draining real server.
type row struct {
	key      state.RealServerKey
	deadline time.Time
	place    int // in deadlines
}

// Len is the number of draining real servers.
func (b *Book) Len() int { return len(b.deadlines) }

// Begin lists k with a deadline, unless it is listed.
func (b *Book) Begin(k state.RealServerKey, deadline time.Time) {
	if b.Has(k) {
		return
	}
	if b.rows == nil {
		b.rows = map[state.VirtualServerKey]map[state.RealServerKey]*row{}
		b.addresses = map[netip.Addr]int{}
	}
	if b.rows[k.Server] == nil {
		b.rows[k.Server] = map[state.RealServerKey]*row{}
	}
	r := &row{key: k, deadline: deadline}
	b.rows[k.Server][k] = r
	b.addresses[k.Server.Address.Addr()]++
	heap.Push(&b.deadlines, r)
}

// Has reports whether k is draining.
func (b *Book) Has(k state.RealServerKey) bool {
	_, ok := b.rows[k.Server][k]
	return ok
}

// End takes k off the list, because it is gone or wanted again.
func (b *Book) End(k state.RealServerKey) {
	r, listed := b.rows[k.Server][k]
	if !listed {
		return
	}
	heap.Remove(&b.deadlines, r.place)
	delete(b.rows[k.Server], k)
	if len(b.rows[k.Server]) == 0 {
		delete(b.rows, k.Server)
	}
	a := k.Server.Address.Addr()
	if b.addresses[a]--; b.addresses[a] == 0 {
		delete(b.addresses, a)
	}
}

// HasServer reports whether a real server of k is draining.
func (b *Book) HasServer(k state.VirtualServerKey) bool { return len(b.rows[k]) > 0 }

// HasAddress reports whether a real server is draining behind the address a.
func (b *Book) HasAddress(a netip.Addr) bool { return b.addresses[a] > 0 }

// Behind are the real servers that drain behind the address a.
func (b *Book) Behind(a netip.Addr) []state.RealServerKey {
	var keys []state.RealServerKey
	if !b.HasAddress(a) {
		return nil
	}
	for server, servers := range b.rows {
		if server.Address.Addr() == a {
			keys = slices.AppendSeq(keys, maps.Keys(servers))
		}
	}
	slices.SortFunc(keys, state.RealServerKey.Compare)
	return keys
}

// Servers are the virtual servers that have draining real servers.
func (b *Book) Servers() []state.VirtualServerKey {
	return slices.Collect(maps.Keys(b.rows))
}

// Finish takes off the list, and returns, the real servers that are seen to have no connections left. One that
// connections does not mention stays: the kernel's list can miss a row while others change. What it costs is the size
// of what was looked at.
func (b *Book) Finish(connections map[state.RealServerKey]state.Connections) []state.RealServerKey {
	var finished []state.RealServerKey
	for k, c := range connections {
		if c.Active+c.Inactive == 0 && b.Has(k) {
			b.End(k)
			finished = append(finished, k)
		}
	}
	return finished
}

// Expire takes off the list, and returns, the real servers whose deadline has passed, whatever is known of their
// connections.
func (b *Book) Expire(now time.Time) []state.RealServerKey {
	var expired []state.RealServerKey
	for first, any := b.First(); any && !now.Before(first); first, any = b.First() {
		k := b.deadlines[0].key
		b.End(k)
		expired = append(expired, k)
	}
	return expired
}

// First is the first deadline, if there is one.
func (b *Book) First() (time.Time, bool) {
	if len(b.deadlines) == 0 {
		return time.Time{}, false
	}
	return b.deadlines[0].deadline, true
}

// Keys are all listed real servers.
func (b *Book) Keys() []state.RealServerKey {
	keys := make([]state.RealServerKey, 0, len(b.deadlines))
	for _, r := range b.deadlines {
		keys = append(keys, r.key)
	}
	return keys
}

// deadlines is a heap, with the first deadline on top.
type deadlines []*row

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push is for package heap.
func (d *deadlines) Push(x any) {
	r := x.(*row)
	r.place = len(*d)
	*d = append(*d, r)
}

// Pop is for package heap.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	r := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return r
}
