// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
)

// account tells a Witness what the loop does, and keeps for it which changes are
// not in the kernel yet.
type account struct {
	core    *Core
	witness Observer
	open    map[desired.Owner][]Programmed
}

// maxOpen bounds what is kept of an owner of whom rows are refused for ever. What
// is left out is measured by nobody.
const maxOpen = 64

func newAccount(c *Core, w Observer) *account {
	return &account{core: c, witness: w, open: map[desired.Owner][]Programmed{}}
}

func (a *account) took(e Event, t desired.Touched, now time.Time) {
	c := Change{Event: e, At: now, Queued: now, Families: familiesOfTouched(t), Due: a.core.Started(), Conflicts: t.Conflicts}
	switch e := e.(type) {
	case Upsert:
		c.Queued = earlier(e.Origin.Queued, now)
		a.enter(e.Owner, e.Origin, c)
	case Delete:
		c.Queued = earlier(e.Origin.Queued, now)
		delete(a.open, e.Owner)
	case Restored, Synced:
		c.Families = BothFamilies
	}
	for _, w := range t.VirtualServers {
		o, owned := a.core.desired.VirtualServers.Owner(w.Key)
		c.Owners = append(c.Owners, ServerOwner{Key: w.Key, Owner: o, Owned: owned})
	}
	a.witness.Received(c)
}

// enter keeps a change until it is in the kernel. How long it waits for the
// source to tell everything is not the kernel's time.
func (a *account) enter(o desired.Owner, from Origin, c Change) {
	if from.Anew {
		a.forget(o)
	}
	if !c.Due {
		from.Queued = time.Time{}
	}
	worth := len(from.Triggers) > 0 || c.Families != NoFamily && !from.Queued.IsZero()
	if worth && len(a.open[o]) < maxOpen {
		a.open[o] = append(a.open[o], Programmed{Origin: from, Families: c.Families})
	}
}

// forget drops the triggers of an owner's changes.
func (a *account) forget(o desired.Owner) {
	for i := range a.open[o] {
		a.open[o][i].Origin.Triggers = nil
	}
}

func (a *account) did(act Act) {
	act.Families = familiesOfDelta(act.Work.Delta)
	if act.Work.Audit {
		act.Families, act.Drift = BothFamilies, a.core.drift
	}
	a.witness.Acted(act)
}

func (a *account) settled(now time.Time) {
	if !a.core.Started() {
		return
	}
	b := a.core.Balance(now)
	b.Programmed = a.close()
	a.witness.Settled(b)
}

// close returns the changes whose owners have no row that is still to come.
func (a *account) close() []Programmed {
	var done []Programmed
	for o, changes := range a.open {
		if !a.core.unfinished(o) {
			done = append(done, changes...)
			delete(a.open, o)
		}
	}
	return done
}
