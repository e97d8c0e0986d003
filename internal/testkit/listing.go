// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Listing reads all tables one after the other, and the test may change them in between. It stands for a list that runs
// beside a writer, without a goroutine.
type Listing struct {
	State state.State // a table that could not be read, or not yet, is nil
	Err   error

	tables kernel.Tables
	next   state.Table
	round  context.Context
}

// Begin returns a Listing of which nothing has been read yet.
func Begin(t kernel.Tables) *Listing {
	return &Listing{tables: t, round: kernel.NewRound(context.Background())}
}

// Go reads the given number of tables and reports whether all are read now.
func (l *Listing) Go(tables int) (done bool) {
	for ; tables > 0 && l.next < state.Tables; tables-- {
		l.Err = errors.Join(l.Err, l.tables.ListOne(l.round, l.next, &l.State))
		l.next++
	}
	return l.next == state.Tables
}
