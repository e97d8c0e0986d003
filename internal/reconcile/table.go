// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// table is what Core knows of one kernel table, without the types of its rows. What goes in and comes out is in
// records.
type table interface {
	written
	audited
	standing
}

// written: a delta is made of the marked rows, and its result taken in.
type written interface {
	next(now time.Time)    // sets the delta
	advance(now time.Time) // takes in the delta and its result
	strayed() bool         // reports whether the result shows that the kernel is not as believed
}

// audited: an audit lists the table, perhaps while it is written.
type audited interface {
	pend()                             // remembers the delta, as an audit goes on
	correct() (whole bool)             // puts right in what was listed what was written meanwhile
	observe(now time.Time) (drift int) // takes in what was listed, and forgets what pend remembered
}

// standing is what there is to say of a table between writes and audits.
type standing interface {
	retried
	reported
}

// retried: rows wait that were refused or held back.
type retried interface {
	recallAll()                        // lets held back rows be looked at again
	wake(late time.Time) time.Time     // is the time of the first retry, or late
	failing(within time.Duration) bool // reports whether a row failed and is retried within that time
}

type reported interface {
	id() state.Table
	rows() Rows
	trouble(state.Family) Trouble // is what the kernel refuses
}

// sharedTable is a table that does not grow with the cluster.
type sharedTable interface {
	table
	markTouched(now time.Time) (touched int) // marks rows of which another value is desired
	waitsFor(desired.Owner) bool             // reports whether a row of that owner is refused or held back
}

// records is what goes between Core and its tables. Each table has a part of each record.
type records struct {
	touched desired.Touched
	delta   state.Delta
	results kernel.Results
	listed  state.State
	reals   state.Packed // the listed real servers
}
