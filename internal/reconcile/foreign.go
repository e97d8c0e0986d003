// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// What drains keeps its virtual server and its address. But an address that is in use elsewhere cuts the node off from
// there for as long as it is bound, and a virtual server refuses at its port what the node sends there. So these are
// not kept: the connections that they had led to a Service whose address is none of its own any more.

// foreign are addresses that are in use elsewhere.
type foreign struct {
	refused map[desired.Owner][]netip.Addr // that Services want and may not have
	count   map[netip.Addr]int             // by how many
	arrived map[netip.Addr]struct{}        // that are bound for what drains, and nothing else
}

// taken reports whether an address is in use elsewhere and not desired.
func (c *Core) taken(a netip.Addr) bool {
	_, arrived := c.foreign.arrived[a]
	if !arrived && c.foreign.count[a] == 0 {
		return false
	}
	_, wanted := c.desired.Addresses.Get(state.Address{Addr: a})
	return !wanted
}

// refuse takes in which addresses a Service may not have now.
func (c *Core) refuse(o desired.Owner, addresses []netip.Addr) {
	was := c.foreign.refused[o]
	if len(was)+len(addresses) == 0 {
		return
	}
	for _, a := range addresses {
		c.foreign.count[a]++
	}
	for _, a := range was {
		if c.foreign.count[a]--; c.foreign.count[a] == 0 {
			delete(c.foreign.count, a)
		}
	}
	c.foreign.refused[o] = addresses
	if len(addresses) == 0 {
		delete(c.foreign.refused, o)
	}
	for _, a := range addresses {
		c.leave(a)
	}
}

// arrive takes in which addresses are in use elsewhere now. Only those matter that are bound, and they do as long as
// they are.
func (c *Core) arrive(addresses []netip.Addr) {
	for _, a := range addresses {
		if _, bound := c.addresses.get(state.Address{Addr: a}); bound || c.drains.book.HasAddress(a) {
			c.foreign.arrived[a] = struct{}{}
			c.leave(a)
		}
	}
}

// unbound takes in that an address is not bound any more.
func (c *Core) unbound(a netip.Addr) { delete(c.foreign.arrived, a) }

// leave ends all draining behind an address that is in use elsewhere.
func (c *Core) leave(a netip.Addr) {
	if !c.taken(a) {
		return
	}
	for _, k := range c.drains.book.Behind(a) {
		c.drains.book.End(k)
		c.drained(k)
	}
	c.queue.put(group{addresses: []state.Address{{Addr: a}}, rows: 1})
}
