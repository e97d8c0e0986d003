// SPDX-License-Identifier: Apache-2.0

package kerneltest

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
	ctx := kernel.NewRound(context.Background())
	l.rest = []func() error{
		one(ctx, "sysctls", t.Sysctls, &l.State.Sysctls), one(ctx, "sets", t.Sets, &l.State.Sets),
		one(ctx, "set entries", t.Entries, &l.State.Entries), one(ctx, "chains", t.Chains, &l.State.Chains),
		one(ctx, "jumps", t.Jumps, &l.State.Jumps), one(ctx, "links", t.Links, &l.State.Links),
		one(ctx, "virtual servers", t.VirtualServers, &l.State.VirtualServers),
		one(ctx, "real servers", t.RealServers, &l.State.RealServers), one(ctx, "addresses", t.Addresses, &l.State.Addresses),
	}
	return l
}

func one[K, V comparable](ctx context.Context, name string, s kernel.Store[K, V], into *map[K]V) func() error {
	return func() error { return kernel.List(ctx, name, s, into) }
}

// Go reads so many more tables, and says whether that were all.
func (l *Listing) Go(tables int) (done bool) {
	for ; tables > 0 && len(l.rest) > 0; tables-- {
		l.Err = errors.Join(l.Err, l.rest[0]())
		l.rest = l.rest[1:]
	}
	return len(l.rest) == 0
}

// State is all that the tables hold, as far as they can be read.
func State(t kernel.Tables) state.State {
	l := Begin(t)
	l.Go(len(l.rest))
	return l.State
}
