// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Listing reads all tables one after the other, and the test may change them in between. It stands for a list
// that runs beside a writer, without a goroutine.
type Listing struct {
	State state.State // a table that could not be read, or not yet, is nil
	Err   error

	rest []func() error
}

// Begin returns a Listing of which nothing has been read yet.
func Begin(t kernel.Tables) *Listing {
	l := &Listing{}
	l.rest = t.Listing(kernel.NewRound(context.Background()), &l.State)
	return l
}

// Go reads the given number of tables and reports whether all are read now.
func (l *Listing) Go(tables int) (done bool) {
	for ; tables > 0 && len(l.rest) > 0; tables-- {
		l.Err = errors.Join(l.Err, l.rest[0]())
		l.rest = l.rest[1:]
	}
	return len(l.rest) == 0
}
