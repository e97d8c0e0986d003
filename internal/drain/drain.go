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
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Drains says whether the real servers of k are worth draining. TCP has
// connections that end, and those behind a mark may be TCP; but the flows of a
// dead UDP or SCTP endpoint would go on into nothing for as long as the client
// keeps its port.
func Drains(k state.VirtualServerKey) bool { return k.Protocol == state.TCP || k.Mark != 0 }

// Weightless is how a real server looks while it drains.
func Weightless(r state.RealServer) state.RealServer {
	r.Weight = 0
	return r
}

// Book is the list of draining real servers. The zero Book is empty.
type Book struct {
	deadlines map[state.VirtualServerKey]map[state.RealServerKey]time.Time
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
	}
	if b.deadlines[k.Server] == nil {
		b.deadlines[k.Server] = map[state.RealServerKey]time.Time{}
	}
	b.deadlines[k.Server][k] = deadline
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
	b.size--
}

// EndServer takes all real servers of a virtual server off the list, which has
// no more use for them, and returns them.
func (b *Book) EndServer(k state.VirtualServerKey) []state.RealServerKey {
	var ended []state.RealServerKey
	for r := range b.deadlines[k] {
		ended = append(ended, r)
	}
	for _, r := range ended {
		b.End(r)
	}
	return ended
}

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
