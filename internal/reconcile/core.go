// SPDX-License-Identifier: Apache-2.0

// Package reconcile brings the kernel to the desired state and keeps it there.
//
// Core decides and is pure: events and outcomes go in (Step, Advance), work comes out (Ready), time is an argument.
// Loop acts: it does what Core says and returns the outcome. Core remembers what the kernel holds of ours from the
// kernel's own answers, so that one change costs its own rows; a full comparison (an audit) is made at the start, every
// sync period, and when an answer shows that another program changed the tables.
//
// The files by what they are for: core, event, phase and audit decide; table_* is what is believed of the kernel;
// queue* are the rows that wait for their place in a delta; handover, drains, flows, foreign, place and proof are rules
// of what may be removed and when; report* is what others read; loop and task act.
package reconcile

import (
	"errors"
	"io/fs"
	"iter"
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ownership says what is ours, by what the kernel itself can prove.
type Ownership interface {
	// Set reports whether a set of that name is ours.
	Set(state.SetName) bool
	// Proofs are the set entries any of which shows that the virtual server k is ours. local says that its address is
	// one of the node's own.
	Proofs(k state.VirtualServerKey, local bool) iter.Seq[state.SetEntry]
	// AddressProofs are the set entries any of which shows that the address a is ours.
	AddressProofs(a state.Address) iter.Seq[state.SetEntry]
}

// Options configure a Core.
type Options struct {
	Ownership    Ownership
	SyncPeriod   time.Duration // between audits
	DrainTimeout time.Duration // after which a draining real server is removed with its connections
	DrainCheck   time.Duration // between looks at the connections of draining real servers
	AuditPause   time.Duration // at least this long between audits that drift calls for

	// MinSyncPeriod is how long the loop collects changes after a write before the next one. 0: it does not.
	MinSyncPeriod time.Duration

	// Chunk is about how many rows are written at a time. 0: some thousand.
	Chunk int

	// Predecessor is the proxy that worked on this node before; nil: there was none.
	Predecessor Predecessor
}

// Core is the deciding half. It is not safe for concurrent use.
type Core struct {
	options  Options
	desired  *desired.Desired
	phases   phases
	audit    audit
	queue    queue
	drains   drains
	flows    staleFlows
	foreign  foreign
	local    map[netip.Addr]struct{} // every address that has been the node's own
	handover handover
	contests map[state.JumpKey]contest

	// added are the virtual servers that the present delta adds, sorted.
	added []diff.Row[state.VirtualServerKey, state.VirtualServer]

	sysctls        tableState[state.SysctlName, string]
	sets           tableState[state.SetName, state.Set]
	entries        tableState[state.SetEntry, state.Entry]
	chains         tableState[state.ChainKey, state.Chain]
	jumps          tableState[state.JumpKey, state.Jump]
	links          tableState[state.LinkName, state.Link]
	virtualServers tableState[state.VirtualServerKey, state.VirtualServer]
	realServers    realServerState
	addresses      tableState[state.Address, state.Binding]

	tables  []table       // all, in the order in which an audit takes them in
	shared  []sharedTable // those that do not grow with the cluster
	records records
}

// NewCore returns a Core with no desired rows and no knowledge of the kernel.
func NewCore(o Options) *Core {
	d := desired.New()
	c := &Core{
		options:  o,
		desired:  d,
		phases:   phases{starting, waiting, leaving},
		drains:   drains{standard: o.DrainTimeout, every: o.DrainCheck, chosen: map[state.VirtualServerKey]time.Duration{}},
		foreign:  foreign{refused: map[desired.Owner][]netip.Addr{}, count: map[netip.Addr]int{}, arrived: map[netip.Addr]struct{}{}},
		local:    map[netip.Addr]struct{}{},
		handover: handover{predecessor: o.Predecessor},
		contests: map[state.JumpKey]contest{},
	}
	r := &c.records
	c.sysctls = newTableState(state.Sysctls, d.Sysctls, r, never[state.SysctlName]) // one that is not desired is not ours
	c.sets = newTableState(state.Sets, d.Sets, r, o.Ownership.Set)
	c.entries = newTableState(state.Entries, d.Entries, r, c.inDesiredSet)
	c.chains = newTableState(state.Chains, d.Chains, r, always[state.ChainKey]) // the adapters list ours only
	c.jumps = newTableState(state.Jumps, d.Jumps, r, always[state.JumpKey])
	c.links = newTableState(state.Links, d.Links, r, always[state.LinkName])
	c.virtualServers = newTableState(state.VirtualServers, d.VirtualServers, r, c.provenServer)
	c.realServers = realServerState{
		desired: d.RealServers, delta: &r.delta.RealServers, result: &r.results.RealServers, reals: &r.reals, book: &c.drains.book,
		keeps: c.takesMarked, ours: c.hasServer, observed: c.observedRealServers, mayAdd: c.realServersHaveServer,
	}
	c.addresses = newTableState(state.Addresses, d.Addresses, r, c.provenAddress)
	c.tables = []table{
		&c.sysctls, &c.sets, &c.entries, &c.chains, &c.jumps, &c.links, &c.addresses, &c.virtualServers, &c.realServers,
	}
	for _, t := range c.tables {
		if s, ok := t.(sharedTable); ok && t.id().Shared() {
			c.shared = append(c.shared, s)
		}
	}
	c.setRules()
	return c
}

func never[K any](K) bool  { return false }
func always[K any](K) bool { return true }

// setRules sets what else is to stay than what is desired, what may be added and removed when, and what follows an
// audit. A sysctl is never removed: its table never asks.
func (c *Core) setRules() {
	c.chains.want, c.jumps.want = c.wantChain, c.wantJump
	c.virtualServers.want, c.addresses.want = c.wantVirtualServer, c.wantAddress
	c.virtualServers.mayAdd, c.addresses.mayAdd = c.virtualServerIsProven, c.addressIsProven

	c.entries.mayRemove = func(e state.SetEntry) bool { return c.phases.mayRemove() && c.entryProvesNothing(e) }
	c.sets.mayRemove = func(n state.SetName) bool {
		return c.sharedRowsRemovable() && (n.Temporary() || c.setsProveNothing() && c.chainsLet(n))
	}
	c.chains.mayRemove = func(k state.ChainKey) bool {
		return c.sharedRowsRemovable() && c.predecessorLets(k) && c.firewallLets(k.Table)
	}
	c.jumps.mayAdd = c.jumpMayCome
	c.jumps.mayRemove = func(k state.JumpKey) bool {
		return c.chains.mayRemove(state.ChainKey{Family: k.Family, Table: k.Table, Name: k.To})
	}
	c.links.mayRemove = func(state.LinkName) bool { return c.phases.mayRemove() && c.deviceIsUnused() }
	c.virtualServers.mayRemove = func(state.VirtualServerKey) bool { return c.phases.mayRemove() }
	c.realServers.mayRemove = c.phases.mayRemove
	c.addresses.mayRemove = func(state.Address) bool { return c.phases.mayRemove() }

	c.chains.observed = func(time.Time) { c.lookForPredecessor() }
	c.jumps.observed = c.judgePlaces
	c.addresses.observed = func(time.Time) { c.audit.foreignAddresses = len(c.records.listed.Addresses) > c.addresses.present }
}

// sharedRowsRemovable reports whether all Service rows have been written, so that rows shared by Services may be
// removed. In the delta of a Service they would go after all that comes (kernel.Tables).
func (c *Core) sharedRowsRemovable() bool { return c.phases.mayRemove() && c.queue.empty() }

func (c *Core) hasServer(k state.VirtualServerKey) bool {
	_, there := c.virtualServers.get(k)
	return there
}

// wantVirtualServer keeps a virtual server that is not desired any more for as long as a real server drains in it. It
// takes no new connections, as all that it has are of weight 0.
func (c *Core) wantVirtualServer(k state.VirtualServerKey) (state.VirtualServer, bool) {
	if v, ok := c.desired.VirtualServers.Get(k); ok {
		return v, true
	}
	h, there := c.virtualServers.get(k)
	return h, there && (c.drains.book.HasServer(k) || c.takesMarked(k))
}

// wantAddress keeps an address with the connections that come to it, unless it is in use elsewhere. The address of
// those behind a mark is not known: they keep all.
func (c *Core) wantAddress(a state.Address) (state.Binding, bool) {
	if v, ok := c.desired.Addresses.Get(a); ok {
		return v, true
	}
	h, there := c.addresses.get(a)
	book := &c.drains.book
	return h, there && !c.taken(a.Addr) && (book.HasAddress(a.Addr) || book.HasAddress(state.FamilyOf(a.Addr).Unspecified()))
}

// Step takes an event in and returns what it touches.
func (c *Core) Step(e Event, now time.Time) desired.Touched {
	t := e.step(c, now)
	c.records.touched = t
	others := len(t.Entries) + len(t.VirtualServers) + len(t.Addresses)
	for _, shared := range c.shared {
		others += shared.markTouched(now)
	}
	c.queueTouched(ownerOf(e), t, now)
	if others > 0 || len(t.RealServers) == 0 { // nothing that is held back waits for real servers
		c.recallShared()
	}
	for _, w := range t.Entries {
		c.recallAfterEntry(w.Key)
	}
	c.records.touched = desired.Touched{}
	return t
}

// Work is what has to be done next. Its parts are independent of each other, except that an audit comes by itself.
type Work struct {
	Audit      bool                     // list the kernel's tables
	Concurrent bool                     // other Work may be done before this audit ends
	Delta      state.Delta              // apply
	Flows      []state.Flow             // flush from conntrack
	Servers    []state.VirtualServerKey // look up the connections of their real servers
}

// Empty reports whether there is nothing to do.
func (w Work) Empty() bool {
	return !w.Audit && w.Delta.Len() == 0 && len(w.Flows) == 0 && len(w.Servers) == 0
}

// Outcome is the result of a Work, part by part.
type Outcome struct {
	Observed    state.State  // a table that could not be listed is nil
	Reals       state.Packed // the real servers, if Observed has none
	ObserveErr  error
	Results     kernel.Results
	Flushed     [2]Flushed // IPv4, IPv6
	FlushErr    error
	Connections map[state.RealServerKey]state.Connections
	LookErr     error
	Looking     time.Duration // for how long connections were looked at
}

// Ready returns what is to be done now. The caller does it and reports with Advance before it asks again.
func (c *Core) Ready(now time.Time) Work {
	switch {
	case !c.phases.mayWrite():
		return Work{}
	case !c.phases.isAuditing() && !now.Before(c.audit.due):
		return c.beginAudit(now)
	}
	for _, k := range c.drains.book.Expire(now) {
		c.drained(k)
	}
	w := Work{Delta: c.nextDelta(now)}
	for w.Delta.Len() == 0 && (!c.queue.empty() || len(c.realServers.leaving) > 0 || c.takeOver()) {
		w.Delta = c.nextDelta(now)
	}
	if !now.Before(c.flows.due) && (c.flows.lost || c.queue.empty()) {
		w.Flows = c.flows.list // each time the kernel's whole table of connections is walked
	}
	w.Servers = c.drains.looks(now)
	return w
}

// nextDelta is the next chunk: real servers that are to get no more packets, or else all that is marked.
func (c *Core) nextDelta(now time.Time) state.Delta {
	d := &c.records.delta
	*d = state.Delta{}
	if c.phases.delta == leaving {
		c.realServers.leave(now, c.chunk())
		if len(c.realServers.leaving) == 0 {
			c.phases.take(allLeft)
		}
		if d.RealServers.Len() > 0 {
			return *d
		}
	}
	c.phases.take(othersTaken)
	c.release()
	waited := !c.queue.empty()
	if c.admit(now); waited && c.queue.empty() {
		c.recallShared()
	}
	c.virtualServers.next(now)
	c.added = d.VirtualServers.Add
	for _, r := range c.added {
		c.realServers.recall(r.Key)
		c.realServers.touchSome(r.Key, c.chunk()) // also if they changed since it was marked
	}
	for _, t := range c.tables {
		if t.id() != state.VirtualServers {
			t.next(now)
		}
	}
	return *d
}

// Advance takes in the outcome of w.
func (c *Core) Advance(w Work, o Outcome, now time.Time) {
	if w.Audit {
		c.endAudit(w, o, now)
		return
	}
	c.flows.took(w.Flows, o.FlushErr, now) // before the delta adds flows of its own
	c.apply(w.Delta, o.Results, now)
	if len(w.Servers) > 0 {
		for _, k := range c.drains.looked(len(w.Servers), o, now) {
			c.drained(k)
		}
	}
}

func (c *Core) apply(d state.Delta, r kernel.Results, now time.Time) {
	c.records.delta, c.records.results = d, r
	drifted := false
	for _, t := range c.tables {
		if c.phases.isAuditing() {
			t.pend()
		}
		t.advance(now)
		drifted = t.strayed() || drifted
	}
	c.moved(d.Jumps, r.Jumps, now)
	for _, row := range d.Addresses.Remove {
		if _, bound := c.addresses.get(row.Key); !bound {
			c.unbound(row.Key.Addr)
		}
	}
	c.staleFlows(d, r)
	c.recallAfter(d, r)
	if drifted {
		c.drifted(now)
	}
	c.records.delta, c.records.results = state.Delta{}, kernel.Results{}
}

// strayed reports whether an answer of the kernel shows that it is not as believed: a row was there or not there
// against expectation, or what a row refers to is gone.
func strayed[K comparable](r kernel.Result[K]) bool {
	if r.Drift > 0 {
		return true
	}
	for _, err := range r.Failed {
		if errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// Wake is when Ready returns work without any further event, such as the end of an audit.
func (c *Core) Wake() time.Time {
	wake := c.audit.wake(c.phases)
	if len(c.flows.list) > 0 && c.flows.due.Before(wake) {
		wake = c.flows.due
	}
	wake = c.drains.wake(wake)
	for _, t := range c.tables {
		wake = t.wake(wake)
	}
	return wake
}

// Latest is the number of the last group of rows that was queued.
func (c *Core) Latest() uint64 { return c.queue.number }

// Behind reports whether a group up to that number is still queued.
func (c *Core) Behind(number uint64) bool {
	g := c.queue.oldest()
	return g != nil && g.number <= number
}

// Started reports whether the kernel may be written.
func (c *Core) Started() bool { return c.phases.mayWrite() }

// Desired is all that is desired, for display and comparison.
func (c *Core) Desired() state.State { return c.desired.State() }
