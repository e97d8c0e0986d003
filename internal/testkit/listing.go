// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Listing reads all tables, one after the other, and anything may happen to them in
// between: as to one that goes on beside a writer, but without a goroutine.
type Listing struct {
	State state.State // a table that could not be read, or not yet, is nil
	Err   error

	tables kernel.Tables
	next   state.Table
	round  context.Context
}

// Begin begins a Listing, of which nothing is read yet.
func Begin(t kernel.Tables) *Listing {
	return &Listing{tables: t, round: kernel.NewRound(context.Background())}
}

// Go reads so many more tables, and says whether that were all.
func (l *Listing) Go(tables int) (done bool) {
	for ; tables > 0 && l.next < state.Tables; tables-- {
		l.Err = errors.Join(l.Err, l.tables.ListOne(l.round, l.next, &l.State))
		l.next++
	}
	return l.next == state.Tables
}
