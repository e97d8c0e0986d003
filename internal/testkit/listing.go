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

	rest []func() error
}

// Begin begins a Listing, of which nothing is read yet.
func Begin(t kernel.Tables) *Listing {
	l := &Listing{}
	l.rest = t.Listing(kernel.NewRound(context.Background()), &l.State)
	return l
}

// Go reads so many more tables, and says whether that were all.
func (l *Listing) Go(tables int) (done bool) {
	for ; tables > 0 && len(l.rest) > 0; tables-- {
		l.Err = errors.Join(l.Err, l.rest[0]())
		l.rest = l.rest[1:]
	}
	return len(l.rest) == 0
}
