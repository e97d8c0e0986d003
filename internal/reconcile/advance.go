// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Advance takes in what came of w.
func (c *Core) Advance(w Work, o Outcome, now time.Time) {
	if w.Audit {
		c.observe(w, o, now)
		return
	}
	c.flushed(w, o, now) // before the delta adds flows of its own
	c.apply(w.Delta, o.Results, now)
	c.looked(w, o, now)
}

func (c *Core) apply(d state.Delta, r kernel.Results, now time.Time) {
	c.remember(d)
	c.sysctls.advance(d.Sysctls, r.Sysctls, now)
	c.sets.advance(d.Sets, r.Sets, now)
	c.entries.advance(d.Entries, r.Entries, now)
	c.chains.advance(d.Chains, r.Chains, now)
	c.jumps.advance(d.Jumps, r.Jumps, now)
	c.moved(d.Jumps, r.Jumps, now)
	c.links.advance(d.Links, r.Links, now)
	c.virtualServers.advance(d.VirtualServers, r.VirtualServers, now)
	c.realServers.advance(d.RealServers, r.RealServers, now)
	c.addresses.advance(d.Addresses, r.Addresses, now)
	for _, row := range d.Addresses.Remove {
		if _, bound := c.addresses.get(row.Key); !bound {
			c.unbound(row.Key.Addr)
		}
	}
	c.staleFlows(d, r)
	c.recallAfter(d, r)
	if drift(r.Sets) || drift(r.Entries) || drift(r.Chains) || drift(r.Jumps) ||
		drift(r.Links) || drift(r.VirtualServers) || drift(r.RealServers) || drift(r.Addresses) {
		c.drifted(now)
	}
}

// staleFlows notes the flows that the delta left behind in conntrack: those to
// a removed real server, and those to a new virtual server from the time when
// its address was nobody's, which would go on untranslated. TCP ends its
// connections to a real server by itself; but a first packet of TCP that was sent
// before its Service was there has an entry as well, and so all that are sent again.
func (c *Core) staleFlows(d state.Delta, r kernel.Results) {
	var left map[state.VirtualServerKey][]state.SetEntry
	for _, row := range d.RealServers.Remove {
		k := row.Key
		if _, failed := r.RealServers.Failed[k]; failed || !leavesFlows(k.Server) {
			continue
		}
		if left == nil {
			left = leadingTo(d.Entries.Remove)
		}
		for _, front := range c.fronts(k.Server, left[k.Server]) {
			c.flows.add(flowTo(k, front))
			c.flowsLost = true
		}
	}
	for _, row := range d.VirtualServers.Add {
		k := row.Key
		if _, failed := r.VirtualServers.Failed[k]; !failed && k.Address.Port() != 0 {
			c.flows.add(state.Flow{Protocol: k.Protocol, Service: k.Address, Endpoint: k.Address})
		}
	}
	for _, row := range d.VirtualServers.Remove {
		delete(c.drainTimeouts, row.Key)
	}
}

func leavesFlows(k state.VirtualServerKey) bool {
	return k.Transport() == state.UDP || k.Transport() == state.SCTP
}

// fronts are the addresses that clients send to whose packets reach the virtual
// server k: those from which entries lead to it, or did until they left, or else its
// own.
func (c *Core) fronts(k state.VirtualServerKey, left []state.SetEntry) []netip.AddrPort {
	var list []netip.AddrPort
	for _, e := range append(c.desired.Leading(k), left...) {
		list = append(list, netip.AddrPortFrom(e.Address, e.Port))
	}
	if len(list) == 0 && k.Mark == 0 {
		list = []netip.AddrPort{k.Address}
	}
	return list
}

// leadingTo sorts entries that lead to virtual servers by these.
func leadingTo(rows []diff.Row[state.SetEntry, state.Entry]) map[state.VirtualServerKey][]state.SetEntry {
	by := map[state.VirtualServerKey][]state.SetEntry{}
	for _, r := range rows {
		if k, leads := r.Key.LeadsTo(r.Value); leads {
			by[k] = append(by[k], r.Key)
		}
	}
	return by
}

func (c *Core) flushed(w Work, o Outcome, now time.Time) {
	if len(w.Flows) == 0 {
		return
	}
	if o.FlushErr != nil {
		c.flowsDue = now.Add(retryLast)
		return
	}
	c.flows.flushed(w.Flows)
	c.flowsLost = false
}

// Changes wait for a look at connections, and where many endpoints change, many
// drain. So no more than so many virtual servers are looked at together, and some
// times as long as a look took there is none.
const (
	lookServers = 16
	lookPause   = 3
)

// looks are the virtual servers to be looked at now: the next ones of a round.
func (c *Core) looks() []state.VirtualServerKey {
	if len(c.round) == 0 {
		c.round = c.book.Servers()
	}
	n := min(lookServers, len(c.round))
	return c.round[:n:n]
}

func (c *Core) looked(w Work, o Outcome, now time.Time) {
	if len(w.Servers) == 0 {
		return
	}
	pause := lookPause * o.Looking
	c.round = c.round[len(w.Servers):]
	if o.LookErr != nil {
		c.round = nil
	}
	if len(c.round) == 0 {
		pause = max(pause, c.options.DrainCheck)
	}
	c.drainDue = now.Add(pause)
	if o.LookErr != nil {
		return
	}
	for _, k := range c.book.Finish(o.Connections) {
		c.drained(k)
	}
}

// drained looks again at a real server and at what was kept for it. Of one behind
// a mark nothing tells any more at which address that is.
func (c *Core) drained(k state.RealServerKey) {
	g := group{servers: []state.VirtualServerKey{k.Server}, rows: 1}
	if k.Server.Mark == 0 {
		g.addresses = append(g.addresses, state.Address{Addr: k.Server.Address.Addr()})
	} else {
		g.addresses = slices.Collect(c.addresses.unwished())
	}
	c.backlog.put(g)
}

// observe takes in an audit. What could not be listed is left as believed, and
// looked at again soon; at once and alone, if the reason may be what was written
// meanwhile.
func (c *Core) observe(w Work, o Outcome, now time.Time) {
	s, reals := o.Observed, o.Reals
	if reals == nil && s.RealServers != nil {
		reals = state.PackReals(s.RealServers)
	}
	lacking := c.correct(&s, &reals)
	c.auditing, c.lastAudit = false, now
	due := c.nextAudit(now)
	switch {
	case w.Concurrent && (lacking || o.ObserveErr != nil):
		due, c.alone = now, true
	case o.ObserveErr != nil:
		due = now.Add(min(c.options.SyncPeriod, max(retryFirst, c.options.AuditPause)))
	}
	c.auditDue = earlier(c.auditDue, due)
	provenServer, provenAddress := c.provenBy(s.Entries)
	none := func(state.SysctlName) bool { return false } // a sysctl that nobody wishes is not ours
	c.drift[Sysctls] = observeFew(&c.sysctls, s.Sysctls, none)
	c.drift[Sets] = observeFew(&c.sets, s.Sets, c.options.Ownership.Set)
	c.drift[Entries] = observe(&c.entries, s.Entries, c.inWishedSet)
	c.drift[Chains] = observeFew(&c.chains, s.Chains, listed) // the adapters list ours only
	if s.Chains != nil {
		c.lookForPredecessor()
	}
	c.drift[Jumps] = observeFew(&c.jumps, s.Jumps, listed)
	if s.Jumps != nil {
		c.judgePlaces(now)
	}
	c.drift[Links] = observeFew(&c.links, s.Links, listed)
	if !c.entries.listed { // without evidence all seem to be others'
		s.Addresses, s.VirtualServers = nil, nil
	}
	c.drift[Addresses] = observe(&c.addresses, s.Addresses, provenAddress)
	if s.Addresses != nil {
		c.strangers = len(s.Addresses) > c.addresses.there
	}
	c.drift[VirtualServers] = observe(&c.virtualServers, s.VirtualServers, provenServer)
	c.drift[RealServers] = c.observeRealServers(reals, now)
	c.noteMarked()
	c.endListing()
	c.recallAll()
	c.gather()
}

// nextAudit is a sync period after the last one began, so that how long an audit
// takes adds nothing to the time that a broken row stays so; but not at once,
// however long it took.
func (c *Core) nextAudit(now time.Time) time.Time {
	due := c.auditBegan.Add(c.options.SyncPeriod)
	if pause := now.Add(min(c.options.SyncPeriod, c.options.AuditPause)); pause.After(due) {
		return pause
	}
	return due
}

func listed[K comparable](K) bool { return true }

// observe takes in one table and counts the rows that somebody else changed.
func observe[K, V comparable](l *lane[K, V], rows map[K]V, ours func(K) bool) (drift int) {
	l.begin(rows != nil)
	if rows == nil {
		return 0
	}
	return l.observe(rows, ours)
}

// observeFew is observe for a table that does not grow with the cluster, and marks
// the rows that are not as wished.
func observeFew[K, V comparable](l *lane[K, V], rows map[K]V, ours func(K) bool) (drift int) {
	drift = observe(l, rows, ours)
	for k := range l.differ.rows {
		if l.stale(k) {
			l.touch(k)
		}
	}
	return drift
}

// inWishedSet leaves the entries of sets that are to be destroyed alone: they
// go with their set.
func (c *Core) inWishedSet(e state.SetEntry) bool {
	_, wished := c.desired.Sets.Get(e.Set)
	return wished
}

// observeRealServers takes in the real servers of our virtual servers. One that
// nobody wishes begins to drain, whoever left it behind; one that already has
// weight 0 goes on draining.
func (c *Core) observeRealServers(rows map[state.VirtualServerKey]state.Reals, now time.Time) (drift int) {
	l := &c.realServers
	l.begin(rows != nil)
	if rows == nil {
		return 0
	}
	drift = l.observe(rows, func(k state.VirtualServerKey) bool {
		_, there := c.virtualServers.get(k)
		return there
	})
	for k, have := range l.differ.rows {
		leaves := false
		for h, w := range state.Both(have, c.desired.RealServers.Of(k)) {
			if h == nil {
				continue
			}
			leaves = leaves || leaving(h, w)
			if w == nil {
				c.drain(h.Key(k), now)
			}
		}
		if leaves {
			l.leaving = append(l.leaving, k)
		}
	}
	for _, k := range c.book.Keys() {
		if _, there := rows[k.Server].Find(k.Address); !there {
			c.book.End(k)
			c.drained(k)
		}
	}
	return drift
}
