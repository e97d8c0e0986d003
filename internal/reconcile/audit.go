// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// audit is the comparison of all tables with the kernel: when it is due, and what the last one found.
type audit struct {
	due, began, ended time.Time
	drift             [state.Tables]int // rows that another program changed
	foreignAddresses  bool              // our device has addresses that are not ours
}

// notDue is when an audit is due that nothing calls for yet.
func notDue() time.Time { return time.Unix(1<<40, 0) }

func (a *audit) wake(p phases) time.Time {
	if p.isAuditing() {
		return notDue()
	}
	return a.due
}

func (c *Core) beginAudit(now time.Time) Work {
	w := Work{Audit: true, Concurrent: c.phases.audit == waiting}
	c.phases.take(auditBegins)
	c.audit.began, c.audit.due = now, notDue()
	return w
}

// drifted calls for an audit soon.
func (c *Core) drifted(now time.Time) {
	due := now
	if pause := c.audit.ended.Add(c.options.AuditPause); pause.After(now) {
		due = pause
	}
	c.audit.due = earlier(due, c.audit.due)
}

// endAudit takes in an audit. What could not be listed is left as believed, and looked at again soon; at once and
// alone, if the reason may be what was written meanwhile.
func (c *Core) endAudit(w Work, o Outcome, now time.Time) {
	c.records.listed, c.records.reals = o.Observed, o.Reals
	if o.Reals == nil && o.Observed.RealServers != nil {
		c.records.reals = state.PackReals(o.Observed.RealServers)
	}
	lacking := c.correct()
	due := c.nextAudit(now)
	switch {
	case w.Concurrent && (lacking || o.ObserveErr != nil):
		due = now
		c.phases.take(auditDoubted)
	case o.ObserveErr != nil:
		due = now.Add(min(c.options.SyncPeriod, max(retryFirst, c.options.AuditPause)))
	}
	c.phases.take(auditEnds)
	c.audit.ended, c.audit.due = now, earlier(c.audit.due, due)
	if c.records.listed.Entries == nil && !c.entries.listed { // without evidence no row seems to be ours
		c.records.listed.Addresses, c.records.listed.VirtualServers = nil, nil
	}
	for _, t := range c.tables {
		c.audit.drift[t.id()] = t.observe(now)
	}
	c.records.listed, c.records.reals = state.State{}, nil
	c.noteMarked()
	c.recallAll()
	c.gather()
}

// nextAudit is a sync period after the last one began, so that the time that an audit takes adds nothing to the time
// that a row stays broken; but not at once, however long it took.
func (c *Core) nextAudit(now time.Time) time.Time {
	due := c.audit.began.Add(c.options.SyncPeriod)
	if pause := now.Add(min(c.options.SyncPeriod, c.options.AuditPause)); pause.After(due) {
		return pause
	}
	return due
}

// inDesiredSet leaves the entries of sets that are to be destroyed alone: they go with their set.
func (c *Core) inDesiredSet(e state.SetEntry) bool {
	_, wanted := c.desired.Sets.Get(e.Set)
	return wanted
}

// observedRealServers lets real servers drain that are not desired, from whatever time they are. One that has weight 0
// already goes on draining.
func (c *Core) observedRealServers(now time.Time) {
	l := &c.realServers
	for k, have := range l.differ.rows {
		leave := false
		for h, w := range state.Both(have, c.desired.RealServers.Of(k)) {
			if h == nil {
				continue
			}
			leave = leave || leaves(h, w)
			if w == nil {
				c.drain(h.Key(k), now)
			}
		}
		if leave {
			l.leaving = append(l.leaving, k)
		}
	}
	for _, k := range c.drains.book.Keys() {
		if _, there := c.records.reals[k.Server].Find(k.Address); !there {
			c.drains.book.End(k)
			c.drained(k)
		}
	}
}
