// SPDX-License-Identifier: Apache-2.0

// Package reconcile brings the kernel to the wish and keeps it there.
//
// Core decides and is pure: events and outcomes go in (Step, Advance), work
// comes out (Ready), time is an argument. Loop acts: it does what Core says and
// tells it what came of it. Core remembers what the kernel holds of ours from
// the kernel's own answers, so that one change costs its own rows; a full
// comparison (an audit) is made at the start, every sync period, and when an
// answer shows that somebody else was at the tables.
package reconcile

import (
	"errors"
	"io/fs"
	"iter"
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/drain"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ownership says what is ours, by what the kernel itself can tell.
type Ownership interface {
	// Set says whether a set of that name is ours.
	Set(state.SetName) bool
	// Proofs are the set entries any of which shows that the virtual server k
	// is ours. local says that its address is one of the node's own.
	Proofs(k state.VirtualServerKey, local bool) iter.Seq[state.SetEntry]
	// AddressProof is the set entry that shows that the address a is ours.
	AddressProof(a state.Address) state.SetEntry
}

// Options are what a Core goes by.
type Options struct {
	Ownership    Ownership
	SyncPeriod   time.Duration // between audits
	DrainTimeout time.Duration // after which a draining real server is removed with its connections
	DrainCheck   time.Duration // between looks at the connections of draining real servers
	AuditPause   time.Duration // at least this long between audits that drift calls for

	// MinSyncPeriod is how long the loop collects changes after a write before
	// the next one. 0: it does not.
	MinSyncPeriod time.Duration

	// Chunk is about how many rows are written at a time. 0: some thousand.
	Chunk int

	// Predecessor is whose place we take; nil: nobody's.
	Predecessor Predecessor
}

// Core is the deciding half. It is not safe for concurrent use.
type Core struct {
	options Options
	desired *desired.Desired
	book    drain.Book
	others  others
	begun   bool                    // the kernel may be written
	synced  bool                    // and rows removed
	local   map[netip.Addr]struct{} // every address that has been the node's own

	auditDue      time.Time
	auditing      bool      // the tables are being listed
	alone         bool      // nothing is to be written during the next audit
	auditBegan    time.Time // the last one
	lastAudit     time.Time // its end
	drainDue      time.Time
	round         []state.VirtualServerKey                 // with draining real servers, still to be looked at before the next DrainCheck
	drainTimeouts map[state.VirtualServerKey]time.Duration // that their owners chose
	flows         staleFlows
	flowsLost     bool // some go where nobody is any more
	flowsDue      time.Time
	drift         [Tables]int // that the last audit found
	strangers     bool        // ... and addresses on our device that are not ours
	handover      handover
	contests      map[state.JumpKey]contest

	backlog backlog

	// left: the last delta ended what was to leave. What else waits has its turn then,
	// so that it does not wait for as long as endpoints die.
	left bool

	// coming are the virtual servers that the present delta adds, sorted.
	coming []diff.Row[state.VirtualServerKey, state.VirtualServer]

	sysctls        lane[state.SysctlName, string]
	sets           lane[state.SetName, state.Set]
	entries        lane[state.SetEntry, state.Entry]
	chains         lane[state.ChainKey, state.Chain]
	jumps          lane[state.JumpKey, state.Jump]
	links          lane[state.LinkName, state.Link]
	virtualServers lane[state.VirtualServerKey, state.VirtualServer]
	realServers    flock
	addresses      lane[state.Address, state.Binding]
}

// NewCore returns a Core that wishes nothing and knows nothing of the kernel.
func NewCore(o Options) *Core {
	d := desired.New()
	c := &Core{
		options:       o,
		desired:       d,
		others:        newOthers(),
		local:         map[netip.Addr]struct{}{},
		sysctls:       newLane(d.Sysctls, state.SysctlName.Compare),
		sets:          newLane(d.Sets, state.SetName.Compare),
		entries:       newLane(d.Entries, state.SetEntry.Compare),
		chains:        newLane(d.Chains, state.ChainKey.Compare),
		jumps:         newLane(d.Jumps, state.JumpKey.Compare),
		links:         newLane(d.Links, state.LinkName.Compare),
		drainTimeouts: map[state.VirtualServerKey]time.Duration{},
		contests:      map[state.JumpKey]contest{},
	}
	c.handover.predecessor = o.Predecessor
	c.chains.want = c.wantChain
	c.jumps.want = c.wantJump
	c.virtualServers = newLane(d.VirtualServers, state.VirtualServerKey.Compare)
	c.virtualServers.want = c.wantVirtualServer
	c.addresses = newLane(d.Addresses, state.Address.Compare)
	c.addresses.want = c.wantAddress
	c.realServers = flock{wishes: d.RealServers, book: &c.book, stays: c.takesMarked}
	c.virtualServers.mayAdd = c.virtualServerIsProven
	c.realServers.mayAdd = c.realServersHaveServer
	c.addresses.mayAdd = c.addressIsProven
	c.entries.family, c.virtualServers.family = familyOfEntry, familyOfServer
	c.realServers.family, c.addresses.family = familyOfRealServer, familyOfAddress
	c.holdRemovals()
	return c
}

// holdRemovals keeps every row until all wishes are known. A sysctl is not
// removed but by nobody's wish; its lane never asks.
func (c *Core) holdRemovals() {
	c.entries.mayRemove = func(e state.SetEntry) bool { return c.synced && c.entryProvesNothing(e) }
	c.sets.mayRemove = func(n state.SetName) bool { return c.mayGoLast() && (n.Temporary() || c.setsProveNothing()) }
	c.chains.mayRemove = func(k state.ChainKey) bool { return c.mayGoLast() && c.mayGo(k) }
	c.jumps.mayRemove = func(k state.JumpKey) bool {
		return c.mayGoLast() && c.mayGo(state.ChainKey{Family: k.Family, Table: k.Table, Name: k.To})
	}
	c.links.mayRemove = func(state.LinkName) bool { return c.synced && c.deviceIsNoUse() }
	c.virtualServers.mayRemove = func(state.VirtualServerKey) bool { return c.synced }
	c.realServers.mayRemove = func() bool { return c.synced }
	c.addresses.mayRemove = func(state.Address) bool { return c.synced }
}

// mayGoLast says whether no rows of Services wait for their turn. What is common to
// all of them, such as the rules that steer packets by marks, goes no earlier: in
// one delta it would go after all that comes (kernel.Tables).
func (c *Core) mayGoLast() bool { return c.synced && c.backlog.empty() }

// holdsLast says whether something is held back until then.
func (c *Core) holdsLast() bool { return c.sets.held.len()+c.chains.held.len()+c.jumps.held.len() > 0 }

// wantVirtualServer keeps a virtual server that nobody wishes any more for as
// long as a real server drains in it. It takes no new connections, as all that
// it has are of weight 0.
func (c *Core) wantVirtualServer(k state.VirtualServerKey) (state.VirtualServer, bool) {
	if v, ok := c.desired.VirtualServers.Get(k); ok {
		return v, true
	}
	h, there := c.virtualServers.get(k)
	return h, there && (c.book.HasServer(k) || c.takesMarked(k))
}

// wantAddress keeps an address with the connections that come to it, if nobody else
// is there. To which one
// those behind a mark come, nothing tells any more: they keep all.
func (c *Core) wantAddress(a state.Address) (state.Binding, bool) {
	if v, ok := c.desired.Addresses.Get(a); ok {
		return v, true
	}
	h, there := c.addresses.get(a)
	return h, there && !c.taken(a.Addr) && (c.book.HasAddress(a.Addr) || c.book.HasAddress(state.FamilyOf(a.Addr).Unspecified()))
}

// Event is something that happened outside the kernel.
type Event interface {
	step(*Core, time.Time) desired.Touched
}

// Upsert says what an owner wishes now.
type Upsert struct {
	Owner    desired.Owner
	Created  time.Time // of the Service: the older wins a conflict
	Fragment state.Fragment
	Arrived  []netip.Addr // where somebody else is, by what changed with the Service
	Origin   Origin
}

// Delete says that an owner wishes nothing any more.
type Delete struct {
	Owner  desired.Owner
	Origin Origin
}

// Restored says that the owners that were there some time ago have been told of:
// what they wish is made, but nothing is removed that others may wish.
type Restored struct{}

// Synced says that every owner that was there at the start has been told of.
// Nothing is removed before, and nothing written at all before this or Restored.
type Synced struct{}

// Local says which addresses are the node's own, besides those that were.
type Local struct{ Addresses []netip.Addr }

// Arrived says that somebody else is at these addresses now.
type Arrived struct{ Addresses []netip.Addr }

// Drifted says that somebody else was seen to change a table.
type Drifted struct{}

func (e Upsert) step(c *Core, _ time.Time) desired.Touched {
	t := c.desired.Upsert(e.Owner, e.Created, e.Fragment)
	if e.Fragment.Drains || len(c.drainTimeouts) > 0 {
		c.chooseDrainTimeout(e.Owner, e.Fragment)
	}
	c.refuse(e.Owner, e.Fragment.Refused)
	c.arrive(e.Arrived)
	return t
}

// chooseDrainTimeout notes an owner's own time, for the virtual servers that it has
// won. It is kept beyond the owner's end, for those that it leaves behind.
func (c *Core) chooseDrainTimeout(o desired.Owner, f state.Fragment) {
	for _, r := range f.VirtualServers {
		switch won, _ := c.desired.VirtualServers.Owner(r.Key); {
		case won != o:
		case f.Drains:
			c.drainTimeouts[r.Key] = f.DrainTimeout
		default:
			delete(c.drainTimeouts, r.Key)
		}
	}
}

func (c *Core) drainTimeout(k state.VirtualServerKey) time.Duration {
	if d, chosen := c.drainTimeouts[k]; chosen {
		return d
	}
	return c.options.DrainTimeout
}

func (e Delete) step(c *Core, _ time.Time) desired.Touched {
	c.refuse(e.Owner, nil)
	return c.desired.Delete(e.Owner)
}

func (Restored) step(c *Core, now time.Time) desired.Touched {
	c.begun, c.alone = true, true
	c.auditDue = now
	return desired.Touched{}
}

func (Synced) step(c *Core, now time.Time) desired.Touched {
	c.begun, c.alone, c.synced = true, true, true
	c.auditDue = now
	c.recallAll()
	return desired.Touched{}
}

func (e Local) step(c *Core, _ time.Time) desired.Touched {
	c.own(e.Addresses)
	return desired.Touched{}
}

func (e Arrived) step(c *Core, _ time.Time) desired.Touched {
	c.arrive(e.Addresses)
	return desired.Touched{}
}

func (Drifted) step(c *Core, now time.Time) desired.Touched {
	c.drifted(now)
	return desired.Touched{}
}

// Step takes an event in and returns what it touches.
func (c *Core) Step(e Event, now time.Time) desired.Touched {
	t := e.step(c, now)
	c.sysctls.touch(c.sysctls.note(t.Sysctls, now)...)
	c.sets.touch(c.sets.note(t.Sets, now)...)
	c.chains.touch(c.chains.note(t.Chains, now)...)
	c.jumps.touch(c.jumps.note(t.Jumps, now)...)
	c.links.touch(c.links.note(t.Links, now)...)
	c.queue(ownerOf(e), t, now)
	if !onlyReals(t) {
		c.recallFew()
	}
	for _, w := range t.Entries {
		c.recallAfterEntry(w.Key)
	}
	return t
}

// ownerOf is who wishes something else by an event that touches rows.
func ownerOf(e Event) desired.Owner {
	switch e := e.(type) {
	case Upsert:
		return e.Owner
	case Delete:
		return e.Owner
	}
	return desired.Owner{}
}

// onlyReals says whether only real servers were touched, which nothing that is
// held back waits for.
func onlyReals(t desired.Touched) bool {
	others := len(t.Sysctls) + len(t.Sets) + len(t.Entries) + len(t.Chains) + len(t.Jumps) + len(t.Links) +
		len(t.VirtualServers) + len(t.Addresses)
	return len(t.RealServers) > 0 && others == 0
}

// drain begins to drain a real server that nobody wishes, if it is there and worth
// it.
func (c *Core) drain(k state.RealServerKey, now time.Time) {
	timeout := c.drainTimeout(k.Server)
	if _, there := c.realServers.get(k); there && c.synced && timeout > 0 && drain.Drains(k.Server) && !c.taken(k.Server.Address.Addr()) {
		if c.book.Len() == 0 {
			c.round = nil
			if soon := now.Add(c.options.DrainCheck); soon.After(c.drainDue) {
				c.drainDue = soon
			}
		}
		c.book.Begin(k, now.Add(timeout))
	}
}

// Work is what has to be done next. Its parts are independent of each other,
// except that an audit comes by itself.
type Work struct {
	Audit   bool                     // list the kernel's tables
	Concurrent   bool                     // other Work may be done before this audit ends
	Delta   state.Delta              // apply
	Flows   []state.Flow             // flush from conntrack
	Servers []state.VirtualServerKey // look up the connections of their real servers
}

// Empty says that there is nothing to do.
func (w Work) Empty() bool {
	return !w.Audit && w.Delta.Len() == 0 && len(w.Flows) == 0 && len(w.Servers) == 0
}

// Outcome is what came of a Work, part by part.
type Outcome struct {
	Observed    state.State                            // a table that could not be listed is nil
	Reals       map[state.VirtualServerKey]state.Reals // the real servers, if Observed has none
	ObserveErr  error
	Results     kernel.Results
	Flushed     [2]Flushed // IPv4, IPv6
	FlushErr    error
	Connections map[state.RealServerKey]state.Connections
	LookErr     error
	Looking     time.Duration // for how long connections were looked at
}

// Ready returns what is to be done now. The caller does it and reports with
// Advance before it asks again.
func (c *Core) Ready(now time.Time) Work {
	switch {
	case !c.begun:
		return Work{}
	case !c.auditing && !now.Before(c.auditDue):
		return c.beginAudit(now)
	}
	for _, k := range c.book.Expire(now) {
		c.drained(k)
	}
	w := Work{Delta: c.delta(now)}
	for w.Delta.Len() == 0 && (!c.backlog.empty() || len(c.realServers.leaving) > 0 || c.takeOver()) {
		w.Delta = c.delta(now)
	}
	if !now.Before(c.flowsDue) && (c.flowsLost || c.backlog.empty()) {
		w.Flows = c.flows.list // each time the kernel's whole table of connections is walked
	}
	if c.book.Len() > 0 && !now.Before(c.drainDue) {
		w.Servers = c.looks()
	}
	return w
}

// never is when an audit is due that nothing calls for yet.
func never() time.Time { return time.Unix(1<<40, 0) }

func (c *Core) beginAudit(now time.Time) Work {
	w := Work{Audit: true, Concurrent: !c.alone}
	c.auditing, c.alone = true, false
	c.auditBegan, c.auditDue = now, never()
	return w
}

// delta is the next chunk: real servers that are to get no more packets, or else
// all that is marked.
func (c *Core) delta(now time.Time) state.Delta {
	if !c.left {
		leaving := c.realServers.leave(now, c.chunk())
		if c.left = len(c.realServers.leaving) == 0; leaving.Len() > 0 {
			return state.Delta{RealServers: leaving}
		}
	}
	c.left = false
	c.release()
	waited := !c.backlog.empty()
	if c.admit(now); waited && c.backlog.empty() && c.holdsLast() {
		c.recallFew()
	}
	servers := c.virtualServers.next(now)
	c.coming = servers.Add
	for _, r := range c.coming {
		c.realServers.recall(r.Key)
		c.realServers.touchSome(r.Key, c.chunk()) // also if they changed since it was marked
	}
	return state.Delta{
		VirtualServers: servers,
		Sysctls:        c.sysctls.next(now),
		Sets:           c.sets.next(now),
		Entries:        c.entries.next(now),
		Chains:         c.chains.next(now),
		Jumps:          c.jumps.next(now),
		Links:          c.links.next(now),
		RealServers:    c.realServers.next(now),
		Addresses:      c.addresses.next(now),
	}
}

// Wake is when Ready has something to say without any further event, such as the
// end of an audit.
func (c *Core) Wake() time.Time {
	wake := c.auditDue
	if c.auditing {
		wake = never()
	}
	if len(c.flows.list) > 0 && c.flowsDue.Before(wake) {
		wake = c.flowsDue
	}
	if c.book.Len() > 0 && c.drainDue.Before(wake) {
		wake = c.drainDue
	}
	if first, drains := c.book.First(); drains && first.Before(wake) {
		wake = first
	}
	wake = c.sysctls.wake(c.sets.wake(c.entries.wake(wake)))
	wake = c.chains.wake(c.jumps.wake(c.links.wake(wake)))
	return c.virtualServers.wake(c.realServers.wake(c.addresses.wake(wake)))
}

// Latest is the number of the last group of rows that came to wait for its turn.
func (c *Core) Latest() uint64 { return c.backlog.number }

// Behind says whether a group up to that number still waits.
func (c *Core) Behind(number uint64) bool {
	g := c.backlog.oldest()
	return g != nil && g.number <= number
}

// Started says whether there is a wish to bring the kernel to.
func (c *Core) Started() bool { return c.begun }

// Desired is all that is wished, for display and comparison.
func (c *Core) Desired() state.State { return c.desired.State() }

func (c *Core) drifted(now time.Time) {
	due := now
	if pause := c.lastAudit.Add(c.options.AuditPause); pause.After(now) {
		due = pause
	}
	if due.Before(c.auditDue) {
		c.auditDue = due
	}
}

// drift says whether an answer of the kernel betrays that it is not as
// believed: a row was there or not there against expectation, or what a row
// refers to is gone.
func drift[K comparable](r kernel.Result[K]) bool {
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
