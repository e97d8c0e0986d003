// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// An audit of a large cluster takes the kernel long. So that changes need not wait for it, they are written while the
// tables are listed (Work.Concurrent). Such a list may have a row that was written meanwhile as it was before, or as it
// is now: the kernel's answer to the write counts.
//
// It may also lack a row that was there all the time, if others came or went: the kernel goes on with a dump of virtual
// servers or addresses by counting rows. So a missing row proves nothing there. If one is missing, the table is listed
// again while nothing is written.

// pendingWrites are the rows of a table that were written while it was listed.
type pendingWrites[K comparable] struct {
	written  map[K]struct{}
	reshaped bool // rows came or went
}

func (p *pendingWrites[K]) endListing() { *p = pendingWrites[K]{} }

// pend notes the rows of a delta, with whatever result.
func pend[K, V comparable](p *pendingWrites[K], d *diff.Delta[K, V]) {
	for k := range d.Keys() {
		if p.written == nil {
			p.written = map[K]struct{}{}
		}
		p.written[k] = struct{}{}
	}
	p.reshaped = p.reshaped || len(d.Remove)+len(d.Add) > 0
}

func (l *tableState[K, V]) pend() { pend(&l.pendingWrites, l.parts.delta) }

// correct puts right in what is listed what was written meanwhile. It leaves a table out that lacks rows for which the
// writes may be the reason, and reports whether it did not.
func (l *tableState[K, V]) correct() (whole bool) {
	rows := *l.parts.listed
	if rows == nil {
		return true
	}
	for k := range l.written {
		if v, believed := l.get(k); believed {
			rows[k] = v
		} else {
			delete(rows, k)
		}
	}
	if !l.reshaped {
		return true
	}
	lacking := l.present
	for k := range rows {
		if _, believed := l.get(k); believed {
			lacking--
		}
	}
	if lacking > 0 {
		*l.parts.listed = nil
	}
	return lacking <= 0
}

func (l *realServerState) pend() { pend(&l.pendingWrites, l.delta) }

func (l *realServerState) correct() (whole bool) {
	rows := *l.reals
	if rows == nil {
		return true
	}
	servers := map[state.VirtualServerKey]struct{}{}
	for k := range l.written {
		servers[k.Server] = struct{}{}
	}
	for k := range servers {
		rows[k] = l.corrected(k, rows[k])
	}
	if !l.reshaped {
		return true
	}
	lacking := l.present
	for k, rs := range rows {
		for h, r := range state.Both(l.of(k), rs) {
			if h != nil && r != nil {
				lacking--
			}
		}
	}
	if lacking > 0 {
		*l.reals = nil
	}
	return lacking <= 0
}

// corrected is what is listed of a virtual server, but for what was written.
func (l *realServerState) corrected(k state.VirtualServerKey, listed state.Reals) state.Reals {
	var rs state.Reals
	for h, r := range state.Both(l.of(k), listed) {
		either := cmp.Or(r, h)
		if _, written := l.written[either.Key(k)]; written {
			r = h
		}
		if r != nil {
			rs = append(rs, *r)
		}
	}
	return rs
}

// correct is for all tables. A table whose rows depend on those of another one is reshaped with it. It reports whether
// some table has to be listed again.
func (c *Core) correct() (lacking bool) {
	c.entries.reshaped = c.entries.reshaped || c.sets.reshaped
	c.realServers.reshaped = c.virtualServers.reshaped // those of one virtual server are listed at once
	c.addresses.reshaped = c.addresses.reshaped || c.links.reshaped
	for _, t := range c.tables {
		lacking = !t.correct() || lacking
	}
	return lacking
}
