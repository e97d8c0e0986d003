// SPDX-License-Identifier: Apache-2.0

// Package drain decides what becomes of a real server that is no longer
// wanted: it takes no new connections (weight 0), stays while it has old ones,
// and leaves when they are gone or its deadline has passed. It is pure; who
// reads the connections and removes the row is reconcile's business.
//
// kube-proxy keeps such a server for as long as any connection lives, looks
// once a minute and forgets its list at a restart (kubernetes#90188, #81775).
// Here the kernel row itself, at weight 0, is the memory.
package drain

import (
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Drains says whether the real servers of k are worth draining. TCP has
// connections that end; but the flows of a dead UDP or SCTP endpoint would go
// on into nothing for as long as the client keeps its port.
func Drains(k state.VirtualServerKey) bool { return k.Transport() == state.TCP }

// Book is the list of draining real servers. The zero Book is empty.
type Book struct {
	deadlines map[state.VirtualServerKey]map[state.RealServerKey]time.Time
	addresses map[netip.Addr]int // how many real servers drain behind it
	size      int
}

// Len is the number of draining real servers.
func (b *Book) Len() int { return b.size }

// Begin lists k with a deadline, unless it is listed.
func (b *Book) Begin(k state.RealServerKey, deadline time.Time) {
	if b.Has(k) {
		return
	}
	if b.deadlines == nil {
		b.deadlines = map[state.VirtualServerKey]map[state.RealServerKey]time.Time{}
		b.addresses = map[netip.Addr]int{}
	}
	if b.deadlines[k.Server] == nil {
		b.deadlines[k.Server] = map[state.RealServerKey]time.Time{}
	}
	b.deadlines[k.Server][k] = deadline
	b.addresses[k.Server.Address.Addr()]++
	b.size++
}

// Has says whether k is draining.
func (b *Book) Has(k state.RealServerKey) bool {
	_, ok := b.deadlines[k.Server][k]
	return ok
}

// End takes k off the list, because it is gone or wanted again.
func (b *Book) End(k state.RealServerKey) {
	if !b.Has(k) {
		return
	}
	delete(b.deadlines[k.Server], k)
	if len(b.deadlines[k.Server]) == 0 {
		delete(b.deadlines, k.Server)
	}
	a := k.Server.Address.Addr()
	if b.addresses[a]--; b.addresses[a] == 0 {
		delete(b.addresses, a)
	}
	b.size--
}

// HasServer says whether a real server of k is draining.
func (b *Book) HasServer(k state.VirtualServerKey) bool { return len(b.deadlines[k]) > 0 }

// HasAddress says whether a real server is draining behind the address a.
func (b *Book) HasAddress(a netip.Addr) bool { return b.addresses[a] > 0 }

// Servers are the virtual servers that have draining real servers.
func (b *Book) Servers() []state.VirtualServerKey {
	var keys []state.VirtualServerKey
	for k := range b.deadlines {
		keys = append(keys, k)
	}
	return keys
}

// Finish takes off the list, and returns, the real servers that have no
// connections left or whose deadline has passed. One that connections does not
// mention stays: the kernel's list can miss a row while others change.
func (b *Book) Finish(connections map[state.RealServerKey]state.Connections, now time.Time) []state.RealServerKey {
	var finished []state.RealServerKey
	for _, servers := range b.deadlines {
		for k, deadline := range servers {
			c, seen := connections[k]
			if seen && c.Active+c.Inactive == 0 || !now.Before(deadline) {
				finished = append(finished, k)
			}
		}
	}
	for _, k := range finished {
		b.End(k)
	}
	return finished
}

// Keys are all listed real servers.
func (b *Book) Keys() []state.RealServerKey {
	keys := make([]state.RealServerKey, 0, b.size)
	for _, servers := range b.deadlines {
		for k := range servers {
			keys = append(keys, k)
		}
	}
	return keys
}
