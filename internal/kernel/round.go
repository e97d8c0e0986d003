// SPDX-License-Identifier: Apache-2.0

package kernel

import "context"

// Round is one look at the kernel and what is done at once upon it. Tables that can only be read together need to be
// read but once in a round: an adapter may take what it read in it for still true until it writes. A change by
// another program meanwhile is found as late as if it had been made right after the reading.
type Round struct{ _ byte } // not empty, so that each has an address of its own

type roundKey struct{}

// NewRound begins a round, that of all calls with the context it returns.
func NewRound(ctx context.Context) context.Context {
	return context.WithValue(ctx, roundKey{}, &Round{})
}

// RoundOf is the round of a call, nil if it is alone.
func RoundOf(ctx context.Context) *Round {
	r, _ := ctx.Value(roundKey{}).(*Round)
	return r
}
