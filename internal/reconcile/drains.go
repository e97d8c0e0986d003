// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/drain"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Changes wait while connections are read, and where many endpoints change, many drain. So no more than so many virtual
// servers are looked at together, and some times as long as a look took there is none.
const (
	lookServers = 16
	lookPause   = 3
)

// drains are the real servers that drain, and when their connections are looked at.
type drains struct {
	book     drain.Book
	standard time.Duration                            // after which one is removed with its connections
	chosen   map[state.VirtualServerKey]time.Duration // the same, where the owner chose it
	every    time.Duration                            // between two rounds
	due      time.Time
	round    []state.VirtualServerKey // still to be looked at before the next one
}

// chooseTimeout notes an owner's own timeout for the virtual servers that it has won. It is kept beyond the owner's
// end, for those that it leaves behind.
func (d *drains) chooseTimeout(rows *desired.Desired, o desired.Owner, f state.Fragment) {
	if !f.Drains && len(d.chosen) == 0 {
		return
	}
	for _, r := range f.VirtualServers {
		switch won, _ := rows.VirtualServers.Owner(r.Key); {
		case won != o:
		case f.Drains:
			d.chosen[r.Key] = f.DrainTimeout
		default:
			delete(d.chosen, r.Key)
		}
	}
}

func (d *drains) timeout(k state.VirtualServerKey) time.Duration {
	if t, chosen := d.chosen[k]; chosen {
		return t
	}
	return d.standard
}

// begin takes in a real server that drains from now on.
func (d *drains) begin(k state.RealServerKey, timeout time.Duration, now time.Time) {
	if d.book.Len() == 0 {
		d.round = nil
		if soon := now.Add(d.every); soon.After(d.due) {
			d.due = soon
		}
	}
	d.book.Begin(k, now.Add(timeout))
}

// looks are the virtual servers to be looked at now: the next ones of a round.
func (d *drains) looks(now time.Time) []state.VirtualServerKey {
	if d.book.Len() == 0 || now.Before(d.due) {
		return nil
	}
	if len(d.round) == 0 {
		d.round = d.book.Servers()
	}
	n := min(lookServers, len(d.round))
	return d.round[:n:n]
}

// looked takes in a look that took so long, and returns the real servers that have drained.
func (d *drains) looked(servers int, o Outcome, now time.Time) []state.RealServerKey {
	pause := lookPause * o.Looking
	d.round = d.round[servers:]
	if o.LookErr != nil {
		d.round = nil
	}
	if len(d.round) == 0 {
		pause = max(pause, d.every)
	}
	d.due = now.Add(pause)
	if o.LookErr != nil {
		return nil
	}
	return d.book.Finish(o.Connections)
}

// wake is when the next look or deadline is, and late if that is later or there is none.
func (d *drains) wake(late time.Time) time.Time {
	if d.book.Len() > 0 && d.due.Before(late) {
		late = d.due
	}
	if first, any := d.book.First(); any && first.Before(late) {
		return first
	}
	return late
}

// drain begins to drain a real server that is not desired, if it is there and worth it.
func (c *Core) drain(k state.RealServerKey, now time.Time) {
	timeout := c.drains.timeout(k.Server)
	_, there := c.realServers.get(k)
	if there && c.phases.mayRemove() && timeout > 0 && drain.Drains(k.Server) && !c.taken(k.Server.Address.Addr()) {
		c.drains.begin(k, timeout, now)
	}
}

// drained queues a real server that has drained, and what was kept for it. The address of one behind a mark is not
// known.
func (c *Core) drained(k state.RealServerKey) {
	g := group{servers: []state.VirtualServerKey{k.Server}, rows: 1}
	if k.Server.Mark == 0 {
		g.addresses = append(g.addresses, state.Address{Addr: k.Server.Address.Addr()})
	} else {
		g.addresses = slices.Collect(c.addresses.undesired())
	}
	c.queue.put(g)
}
