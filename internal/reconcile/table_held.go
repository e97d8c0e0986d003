// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// While deleted Services drain, their entries are held back, which may be many thousand. So that a change costs its own
// size, it recalls the rows that wait for one of its rows, and no others are looked at. Which row waits for which is
// the reverse of proof.go. All are looked at again after an audit, and when it changes what may be removed, or which
// addresses are the node's own.

// heldBack are the marked rows of one table that may not be added or removed yet, by their keys.
type heldBack[K comparable] struct {
	held     shrinkingMap[K, struct{}]
	recalled []K // that may be by now
}

func (h *heldBack[K]) holdBack(k K) { h.held.put(k, struct{}{}) }

// recall is for a row for which what it waits for may have happened.
func (h *heldBack[K]) recall(k K) {
	if h.held.has(k) {
		h.held.drop(k)
		h.recalled = append(h.recalled, k)
	}
}

func (h *heldBack[K]) recallAll() {
	if h.held.len() == 0 { // as after most changes
		return
	}
	h.recalled = slices.AppendSeq(h.recalled, maps.Keys(h.held.rows))
	h.held = shrinkingMap[K, struct{}]{}
}

// takeRecalled returns the rows that are to be looked at again.
func (h *heldBack[K]) takeRecalled() []K {
	keys := h.recalled
	h.recalled = nil
	return keys
}

// recallShared is for the tables that do not grow with the cluster: their rows wait for what is true of all others.
func (c *Core) recallShared() {
	for _, t := range c.shared {
		t.recallAll()
	}
}

func (c *Core) recallAll() {
	for _, t := range c.tables {
		t.recallAll()
	}
}

// recallAfterEntry is for an entry that came, went, or is wanted or not as it was not before: it may prove a row, or be
// one proof more, which lets another go.
func (c *Core) recallAfterEntry(e state.SetEntry) {
	if c.addresses.held.len() > 0 {
		c.addresses.recall(state.Address{Addr: e.Address})
	}
	if c.virtualServers.held.len()+c.entries.held.len() == 0 {
		return
	}
	servers := c.provable(e)
	if len(servers) == 0 { // an address alone
		c.recallAddressProofs(state.Address{Addr: e.Address})
	}
	for _, k := range servers {
		c.virtualServers.recall(k)
		c.recallProofs(k)
	}
}

// recallAfterServer is for a virtual server that came or went.
func (c *Core) recallAfterServer(k state.VirtualServerKey) {
	c.realServers.recall(k)
	c.recallProofs(k)
}

func (c *Core) recallProofs(k state.VirtualServerKey) {
	if c.entries.held.len() == 0 {
		return
	}
	for e := range c.proofs(k) {
		c.entries.recall(e)
	}
}

func (c *Core) recallAddressProofs(a state.Address) {
	if c.entries.held.len() == 0 || !a.Addr.IsValid() {
		return
	}
	for e := range c.addressProofs(a) {
		c.entries.recall(e)
	}
}

// recallAfter is for what was written.
func (c *Core) recallAfter(d state.Delta, r kernel.Results) {
	if d.Len() == d.RealServers.Len() {
		return
	}
	c.recallShared()
	c.releaseMarked()
	eachWritten(d.Entries, r.Entries, c.recallAfterEntry)
	eachWritten(d.VirtualServers, r.VirtualServers, c.recallAfterServer)
	eachWritten(d.Addresses, r.Addresses, c.recallAddressProofs)
}

// eachWritten calls f for the rows of a delta that did not fail.
func eachWritten[K, V comparable](d diff.Delta[K, V], r kernel.Result[K], f func(K)) {
	for k := range d.Keys() {
		if _, failed := r.Failed[k]; !failed {
			f(k)
		}
	}
}

// own notes addresses of the node's own. What a port proves may change then.
func (c *Core) own(addresses []netip.Addr) {
	before := len(c.local)
	for _, a := range addresses {
		c.local[a] = struct{}{}
	}
	if len(c.local) > before {
		c.recallAll()
	}
}
