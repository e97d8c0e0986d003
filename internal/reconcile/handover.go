// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Predecessor knows the rules that another service proxy left, one that works without virtual servers.
type Predecessor interface {
	// Left reports whether a chain is one of its own, and of no use to us.
	Left(state.ChainKey) bool
	// Interim is what a chain of ours should be until all else is in the kernel; false: nothing but as wanted. It is so
	// where have sends packets to endpoints by itself.
	Interim(have, want state.Chain) (state.Chain, bool)
	// Flows are all that the chains can have sent on, but for connections that end. local are the node's own addresses.
	Flows(chains map[state.ChainKey]state.Chain, local []netip.Addr) []state.Flow
}

// What a predecessor's rules send on never meets a virtual server. So they can stay until all else is in the kernel,
// and have to: without them, Services would be lost until the last virtual server and address is there.
type handover struct {
	predecessor Predecessor                 // nil: there was none
	serving     map[state.ChainKey]struct{} // chains of ours in which its rules are still at work
	stage       stage                       // since the last audit
	marked      []state.VirtualServerKey    // that its rules may still lead to
}

// stage is how much is taken from a predecessor.
type stage uint8

const (
	nothing stage = iota
	// refusals are what drops and rejects (in filter) what is not sent on: they would refuse what virtual servers get.
	refusals
	everything
)

// patience is how long the handover waits for rows that fail, by the time between two tries: waiting longer would keep
// all other Services at endpoints that may be gone.
const patience = 3 * time.Second

// lookForPredecessor is for an audit that has seen the chains.
func (c *Core) lookForPredecessor() {
	c.handover.stage = nothing
	if c.handover.predecessor == nil {
		return
	}
	c.handover.serving = map[state.ChainKey]struct{}{}
	for k, have := range c.chains.believed() {
		want, wanted := c.desired.Chains.Get(k)
		if !wanted && !c.otherFirewall(k.Table) {
			continue
		}
		if _, serves := c.handover.predecessor.Interim(have, want); serves {
			c.handover.serving[k] = struct{}{}
		}
	}
}

// wantChain keeps a predecessor's rules at work where they are.
func (c *Core) wantChain(k state.ChainKey) (state.Chain, bool) {
	want, wanted := c.desired.Chains.Get(k)
	if _, serving := c.handover.serving[k]; serving && wanted {
		have, _ := c.chains.get(k)
		if interim, still := c.handover.predecessor.Interim(have, want); still {
			return interim, true
		}
	}
	return want, wanted
}

// takesMarked reports whether rules of an older version of ours may still lead packets to a virtual server, by their
// marks.
func (c *Core) takesMarked(k state.VirtualServerKey) bool {
	if !state.OurMark(k.Mark) || c.handover.predecessor == nil {
		return false
	}
	if _, wanted := c.desired.VirtualServers.Get(k); wanted {
		return false
	}
	if c.handover.stage < everything || len(c.handover.serving) > 0 {
		return true
	}
	for range c.jumps.undesired() {
		return true
	}
	return false
}

// noteMarked is for an audit that has seen the virtual servers.
func (c *Core) noteMarked() {
	c.handover.marked = nil
	for k := range c.virtualServers.believed() {
		if c.takesMarked(k) {
			c.handover.marked = append(c.handover.marked, k)
		}
	}
}

// releaseMarked lets these drain once no packet is marked any more.
func (c *Core) releaseMarked() {
	if len(c.handover.marked) == 0 || c.takesMarked(c.handover.marked[0]) {
		return
	}
	c.virtualServers.touch(c.handover.marked...)
	c.realServers.touch(c.handover.marked...)
	c.handover.marked = nil
}

// predecessorLets reports whether a chain may be removed, or a jump to it: what a predecessor left goes last.
func (c *Core) predecessorLets(k state.ChainKey) bool {
	h := c.handover
	if !c.phases.mayRemove() || h.predecessor == nil || !h.predecessor.Left(k) {
		return c.phases.mayRemove()
	}
	return h.stage == everything || h.stage == refusals && k.Table == state.Filter
}

// takeOver takes the next part from the predecessor, if there is nothing else to do, and reports whether there was one.
func (c *Core) takeOver() bool {
	h := &c.handover
	if h.predecessor == nil || h.stage == everything || !c.phases.mayRemove() || !c.chains.listed || c.awaited() {
		return false
	}
	h.stage++
	c.recallShared()
	if h.stage == everything {
		c.forsake()
		for k := range h.serving {
			c.chains.touch(k)
		}
		h.serving = nil
		c.releaseMarked()
	}
	return true
}

// awaited reports whether a row failed that may soon not fail any more.
func (c *Core) awaited() bool { return c.failing(patience) }

// refused reports whether a row failed and is still as it was.
func (c *Core) refused() bool { return c.failing(2 * retryLast) }

func (c *Core) failing(within time.Duration) bool {
	return slices.ContainsFunc(c.tables, func(t table) bool { return t.failing(within) })
}

// forsake notes the flows that the predecessor's rules sent to endpoints that are not desired any more.
func (c *Core) forsake() {
	if len(c.handover.serving) == 0 {
		return
	}
	led := map[state.VirtualServerKey][]state.VirtualServerKey{}
	for e, v := range c.desired.Entries.All() {
		if to, leads := e.LeadsTo(v); leads {
			front := state.VirtualServerKey{Address: netip.AddrPortFrom(e.Address, e.Port), Protocol: e.Protocol}
			led[front] = append(led[front], to)
		}
	}
	for _, f := range c.handover.predecessor.Flows(maps.Collect(c.chains.believed()), slices.Collect(maps.Keys(c.local))) {
		front := state.VirtualServerKey{Address: f.Service, Protocol: f.Protocol}
		goesOn := func(k state.VirtualServerKey) bool { return c.leadsTo(k, f.Endpoint) }
		if !goesOn(front) && !slices.ContainsFunc(led[front], goesOn) {
			c.flows.add(f)
		}
	}
}

// leadsTo reports whether an endpoint is desired for a virtual server, which may keep the client's port.
func (c *Core) leadsTo(k state.VirtualServerKey, endpoint netip.AddrPort) bool {
	for _, a := range []netip.AddrPort{endpoint, netip.AddrPortFrom(endpoint.Addr(), 0)} {
		if _, wanted := c.desired.RealServers.Get(state.RealServerKey{Server: k, Address: a}); wanted {
			return true
		}
	}
	return false
}
