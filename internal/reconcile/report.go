// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// reporter calls an Observer, and keeps for it which changes are not in the kernel yet.
type reporter struct {
	core     *Core
	observer Observer
	open     map[desired.Owner][]Programmed
}

// maxOpen bounds what is kept of an owner whose rows are refused for ever. What is left out is not measured.
const maxOpen = 64

func newReporter(c *Core, o Observer) *reporter {
	return &reporter{core: c, observer: o, open: map[desired.Owner][]Programmed{}}
}

func (r *reporter) received(e Event, t desired.Touched, now time.Time) {
	d := r.core.desired
	c := Change{Event: e, At: now, Queued: now, Families: d.Families(&t), Due: r.core.Started(), Conflicts: t.Conflicts}
	switch e := e.(type) {
	case Upsert:
		c.Queued = earlier(e.Origin.Queued, now)
		r.enter(e.Owner, e.Origin, c)
	case Delete:
		c.Queued = earlier(e.Origin.Queued, now)
		delete(r.open, e.Owner)
	case Restored, Synced:
		c.Families = state.BothFamilies
	}
	for _, w := range t.VirtualServers {
		o, owned := d.VirtualServers.Owner(w.Key)
		c.Owners = append(c.Owners, ServerOwner{Key: w.Key, Owner: o, Owned: owned})
	}
	r.observer.Received(c)
}

// enter keeps a change until it is in the kernel. The time until the source has listed everything is not the kernel's.
func (r *reporter) enter(o desired.Owner, from Origin, c Change) {
	if from.Anew {
		for i := range r.open[o] {
			r.open[o][i].Origin.Triggers = nil
		}
	}
	if !c.Due {
		from.Queued = time.Time{}
	}
	worth := len(from.Triggers) > 0 || c.Families != state.NoFamily && !from.Queued.IsZero()
	if worth && len(r.open[o]) < maxOpen {
		r.open[o] = append(r.open[o], Programmed{Origin: from, Families: c.Families})
	}
}

func (r *reporter) acted(a Act) {
	a.Families = a.Work.Delta.Families()
	if a.Work.Audit {
		a.Families, a.Drift = state.BothFamilies, r.core.audit.drift
	}
	r.observer.Acted(a)
}

func (r *reporter) settled(now time.Time) {
	if !r.core.Started() {
		return
	}
	b := r.core.Balance(now)
	b.Programmed = r.close()
	r.observer.Settled(b)
}

// close returns the changes whose owners have no row that is still to come.
func (r *reporter) close() []Programmed {
	var done []Programmed
	for o, changes := range r.open {
		if !r.core.unfinished(o) {
			done = append(done, changes...)
			delete(r.open, o)
		}
	}
	return done
}
