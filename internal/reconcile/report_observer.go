// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Observer gets a report of what the loop does, on the loop's goroutine: it must not block. It keeps nothing of a
// report without copying it, but for values that never change: fragments, deltas, results.
type Observer interface {
	// Received reports a change when it is taken in, before anything is written because of it.
	Received(Change)
	// Acted reports one thing that was done, when it is done.
	Acted(Act)
	// Settled reports that there is nothing to do for now: each change that was taken in has been written or refused.
	// It is not called before something may be written.
	Settled(Balance)
}

// Origin is what made an owner want other rows, for measurements. The zero Origin is of no known time and no object.
type Origin struct {
	Queued   time.Time // when the loop was notified
	Services int       // objects that changed
	Slices   int

	// Triggers say what in the cluster the change goes back to.
	Triggers []Trigger
	// Anew says that earlier triggers of this owner which still wait for the kernel do not count any more.
	Anew bool
}

// Trigger is when a Pod or Service changed that made an EndpointSlice change, as the EndpointSlice says.
type Trigger struct {
	Family state.Family
	At     time.Time
}

// Change is an event that was taken in.
type Change struct {
	Event    Event
	At       time.Time      // when
	Queued   time.Time      // when the loop was notified, or At if that is not known
	Families state.Families // whose rows change
	Due      bool           // these may be written now, if there are any

	// Owners are the virtual servers that another owner may have now.
	Owners []ServerOwner

	// Conflicts are the claims that the change made or met and that lost.
	Conflicts []desired.Conflict
}

// ServerOwner is a virtual server and its owner, if there is one.
type ServerOwner struct {
	Key   state.VirtualServerKey
	Owner desired.Owner
	Owned bool
}

// Cause is why something was written.
type Cause string

// The causes.
const (
	CauseStart  Cause = "start"  // what the kernel lacked at the start
	CauseChange Cause = "change" // other rows are desired
	CauseAudit  Cause = "audit"  // what a full comparison found
	CauseTime   Cause = "time"   // a retry, or a real server that has drained
)

// Act is something that the loop did.
type Act struct {
	Cause    Cause
	Work     Work
	Outcome  Outcome
	Families state.Families // of the rows that were written or listed
	Began    time.Time
	Took     time.Duration

	// Drift is, for an audit, how many rows were not as the kernel had been left, by table.
	Drift [state.Tables]int
}

// RulesRefused are the families in which iptables refused rules.
func (a Act) RulesRefused() state.Families {
	return refusedIn(a.Outcome.Results.Chains) | refusedIn(a.Outcome.Results.Jumps)
}

func refusedIn[K state.Key[K]](r kernel.Result[K]) state.Families {
	found := state.NoFamily
	for k := range r.Failed {
		found |= k.Families()
	}
	return found
}

// Flushed are the conntrack entries of one family that were removed.
type Flushed struct {
	Entries int
	Took    time.Duration
}

// Balance is how far the kernel is from the desired state when all that could be done has been done.
type Balance struct {
	At   time.Time
	Wake time.Time // when the loop acts next if no event comes

	Rows      [state.Tables]Rows
	IPv4      Trouble
	IPv6      Trouble
	Draining  int // real servers
	Contested int // virtual servers that several owners want
	Owners    int // that want something

	// Displaced are the jumps that others keep behind rules of theirs.
	Displaced []Displaced

	// Programmed are the changes that are in the kernel since the last Balance.
	Programmed []Programmed
}

// Of is the trouble of one family.
func (b Balance) Of(f state.Family) Trouble {
	if f == state.IPv4 {
		return b.IPv4
	}
	return b.IPv6
}

// Rows are the numbers of one table.
type Rows struct {
	Desired int
	Present int // of ours, by the kernel's answers
	Refused int // tried again and again
}

// Trouble is what the kernel refuses.
type Trouble struct {
	Refused int       // rows
	Since   time.Time // the first of them was refused; zero: none
	// Blocked is since when it is not only one Service's rows that are refused but the node's own, or all that is
	// written to a table. Zero: it is not.
	Blocked time.Time
}

// Programmed is a change whose rows are all in the kernel.
type Programmed struct {
	Origin   Origin
	Families state.Families
}

// All are the observers together, called in this order.
func All(o ...Observer) Observer { return observers(o) }

type observers []Observer

func (all observers) Received(c Change) {
	for _, o := range all {
		o.Received(c)
	}
}

func (all observers) Acted(a Act) {
	for _, o := range all {
		o.Acted(a)
	}
}

func (all observers) Settled(b Balance) {
	for _, o := range all {
		o.Settled(b)
	}
}
