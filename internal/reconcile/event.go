// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Event is something that happened outside the kernel.
type Event interface {
	step(*Core, time.Time) desired.Touched
}

// Upsert says what an owner wants now.
type Upsert struct {
	Owner    desired.Owner
	Created  time.Time // of the Service: the older wins a conflict
	Fragment state.Fragment
	Arrived  []netip.Addr // where others are, by what changed with the Service
	Origin   Origin
}

// Delete says that an owner wants nothing any more.
type Delete struct {
	Owner  desired.Owner
	Origin Origin
}

// Restored says that the owners of some time ago are known: their rows are made, but nothing is removed that others may
// want.
type Restored struct{}

// Synced says that every owner that was there at the start is known. Nothing is removed before, and nothing is written
// at all before this or Restored.
type Synced struct{}

// Local adds addresses to those that are or have been the node's own.
type Local struct{ Addresses []netip.Addr }

// Arrived says that these addresses are in use elsewhere now.
type Arrived struct{ Addresses []netip.Addr }

// Drifted says that another program was seen to change a table.
type Drifted struct{}

func (e Upsert) step(c *Core, _ time.Time) desired.Touched {
	t := c.desired.Upsert(e.Owner, e.Created, e.Fragment)
	c.drains.chooseTimeout(c.desired, e.Owner, e.Fragment)
	c.refuse(e.Owner, e.Fragment.Refused)
	c.arrive(e.Arrived)
	return t
}

func (e Delete) step(c *Core, _ time.Time) desired.Touched {
	c.refuse(e.Owner, nil)
	return c.desired.Delete(e.Owner)
}

func (Restored) step(c *Core, now time.Time) desired.Touched {
	c.phases.take(objectsRestored)
	c.audit.due = now
	return desired.Touched{}
}

func (Synced) step(c *Core, now time.Time) desired.Touched {
	c.phases.take(objectsSynced)
	c.audit.due = now
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

// ownerOf is the owner of the rows that an event touches.
func ownerOf(e Event) desired.Owner {
	switch e := e.(type) {
	case Upsert:
		return e.Owner
	case Delete:
		return e.Owner
	}
	return desired.Owner{}
}
