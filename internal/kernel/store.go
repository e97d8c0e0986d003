// SPDX-License-Identifier: Apache-2.0

// Package kernel says what a kernel table is to the rest of the program: a Store that can be listed and changed. It
// holds the one order in which tables are changed.
//
// It talks to no kernel itself: each subsystem has an adapter in a package below, and package testkit/mem has one for
// memory.
package kernel

import (
	"context"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Store is one kernel table. It is used by one goroutine at a time.
type Store[K, V comparable] interface {
	// List returns every row in the kernel, ours or not. A dump that the kernel reports as interrupted is repeated, and
	// in the end an error: never a partial map.
	List(ctx context.Context) (map[K]V, error)

	// Apply makes the changes of d, in which no row is twice: first Remove, then Update, then Add. Each says what a row
	// should be, not how it gets there: a row to add or update that is there is brought to its value, one that is not
	// there is made, and one to remove may be gone already. A row that fails does not keep the others from being tried.
	Apply(ctx context.Context, d diff.Delta[K, V]) Result[K]
}

// Result is what became of a delta.
type Result[K comparable] struct {
	// Failed holds the rows that are not as desired, and why. An error wraps fs.ErrNotExist where the kernel lacks what
	// the row refers to.
	Failed map[K]error

	// Drift counts the answers that did not fit what the delta took for granted: an added row was there already, an
	// updated or removed one was not. Another program has changed the table.
	Drift int
}

// Fail records that the row k failed with err.
func (r *Result[K]) Fail(k K, err error) {
	if r.Failed == nil {
		r.Failed = map[K]error{}
	}
	r.Failed[k] = err
}

// Merge adds what became of another delta.
func (r *Result[K]) Merge(o Result[K]) {
	for k, err := range o.Failed {
		r.Fail(k, err)
	}
	r.Drift += o.Drift
}

// Tables are the stores of one kernel: a record with a part for each table (state.Part).
type Tables struct {
	Sysctls        Store[state.SysctlName, string]
	Sets           Store[state.SetName, state.Set]
	Entries        Store[state.SetEntry, state.Entry]
	Chains         Store[state.ChainKey, state.Chain]
	Jumps          Store[state.JumpKey, state.Jump]
	Links          Store[state.LinkName, state.Link]
	VirtualServers Store[state.VirtualServerKey, state.VirtualServer]
	RealServers    Store[state.RealServerKey, state.RealServer]
	Addresses      Store[state.Address, state.Binding]
}

// Results are the results of one Delta: a record with a part for each table.
type Results struct {
	Sysctls        Result[state.SysctlName]
	Sets           Result[state.SetName]
	Entries        Result[state.SetEntry]
	Chains         Result[state.ChainKey]
	Jumps          Result[state.JumpKey]
	Links          Result[state.LinkName]
	VirtualServers Result[state.VirtualServerKey]
	RealServers    Result[state.RealServerKey]
	Addresses      Result[state.Address]
}

// Failures returns the first errors of r, at most limit, and how many there are in all.
func (r Results) Failures(limit int) (first []error, all int) {
	for _, n := range r.Refused() {
		all += n
	}
	if all > 0 { // it mostly is not, and then the list is not ranged over
		first = r.first(limit)
	}
	return first, all
}

func (r Results) first(limit int) (first []error) {
	for t, k := range kinds() {
		k.failures(state.Table(t), &r, limit, &first)
	}
	return first
}

// Refused are the numbers of rows that failed, by table.
func (r Results) Refused() [state.Tables]int {
	return [state.Tables]int{
		len(r.Sysctls.Failed), len(r.Sets.Failed), len(r.Entries.Failed), len(r.Chains.Failed), len(r.Jumps.Failed),
		len(r.Links.Failed), len(r.VirtualServers.Failed), len(r.RealServers.Failed), len(r.Addresses.Failed),
	}
}

// Drift is the sum over all tables.
func (r Results) Drift() int {
	n := 0
	for t, k := range kinds() {
		n += k.drift(state.Table(t), &r)
	}
	return n
}

// Written calls f for each row of d that did not fail: "removed", "changed" or "added". The tables come in the order of
// removal.
func (r Results) Written(d state.Delta, f func(t state.Table, verb string, key any)) {
	all := kinds()
	for t, k := range slices.Backward(all[:]) {
		k.written(state.Table(t), &d, &r, func(verb string, key any) { f(state.Table(t), verb, key) })
	}
}

// Round is one look at the kernel and what is done at once upon it. Tables that can only be read together need to be
// read but once in a round: an adapter may take what it read in it for still true until it writes. A change by another
// program meanwhile is found as late as if it had been made right after the reading.
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
