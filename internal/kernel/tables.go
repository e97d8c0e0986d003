// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// List reads all tables, in one Round. A table that can't be read is left nil in
// the State and named in the error; the others are still returned.
func (t Tables) List(ctx context.Context) (state.State, error) {
	if RoundOf(ctx) == nil {
		ctx = NewRound(ctx)
	}
	var s state.State
	var err error
	for _, read := range t.Listing(ctx, &s) {
		err = errors.Join(err, read())
	}
	return s, err
}

// Listing is List in its steps, of which each reads one table into s: for tests that
// let something happen in between.
func (t Tables) Listing(ctx context.Context, s *state.State) []func() error {
	return []func() error{
		func() error { return List(ctx, "sysctls", t.Sysctls, &s.Sysctls) },
		func() error { return List(ctx, "sets", t.Sets, &s.Sets) },
		func() error { return List(ctx, "set entries", t.Entries, &s.Entries) },
		func() error { return List(ctx, "chains", t.Chains, &s.Chains) },
		func() error { return List(ctx, "jumps", t.Jumps, &s.Jumps) },
		func() error { return List(ctx, "links", t.Links, &s.Links) },
		func() error { return List(ctx, "virtual servers", t.VirtualServers, &s.VirtualServers) },
		func() error { return List(ctx, "real servers", t.RealServers, &s.RealServers) },
		func() error { return List(ctx, "addresses", t.Addresses, &s.Addresses) },
	}
}

// List reads one table into a map; the error names it.
func List[K, V comparable](ctx context.Context, name string, s Store[K, V], into *map[K]V) error {
	rows, err := s.List(ctx)
	if err != nil {
		return fmt.Errorf("listing %s: %w", name, err)
	}
	*into = rows
	return nil
}

// Apply makes the changes of d in the order that keeps packets safe.
//
// Rows are added and updated forward: a packet finds its masquerade and filter
// rules before the virtual server that makes it one of ours, and the address
// that attracts it last. They are removed backward: the address first, and the
// set entries, by which ownership of a virtual server is known after a crash,
// when the virtual server is gone.
//
// A set entry may lead packets to another virtual server than their address
// would. It comes after that one's real servers and leaves before them.
// A real server that is to get no more connections (weight 0) is one that
// leaves: its successors are there by then.
//
// What is led elsewhere is not refused, so an entry that refuses comes after those
// that lead, and leaves before them.
//
// A set entry by which clients keep their address leaves before real servers
// come, and comes after they have left: those of other nodes answer only to
// this node's address.
func (t Tables) Apply(ctx context.Context, d state.Delta) Results {
	var r Results
	leading, entries := Split(d.Entries, func(e state.SetEntry, v state.Entry) bool { _, leads := e.LeadsTo(v); return leads })
	refusing, entries := Split(entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set.Refuses() })
	keeping, entries := Split(entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set.KeepsClient() })
	resting, servers := Split(d.RealServers, func(_ state.RealServerKey, s state.RealServer) bool { return s.Weight == 0 })
	set(ctx, t.Sysctls, d.Sysctls, &r.Sysctls)
	set(ctx, t.Sets, d.Sets, &r.Sets)
	set(ctx, t.Entries, entries, &r.Entries)
	remove(ctx, t.Entries, keeping, &r.Entries)
	late := len(resting.Add)+len(resting.Update)+len(d.RealServers.Remove) > 0
	if !late {
		set(ctx, t.Entries, keeping, &r.Entries)
	}
	t.setRules(ctx, d, &r)
	set(ctx, t.Links, d.Links, &r.Links)
	set(ctx, t.VirtualServers, d.VirtualServers, &r.VirtualServers)
	set(ctx, t.RealServers, servers, &r.RealServers)
	set(ctx, t.Entries, leading, &r.Entries)
	set(ctx, t.Entries, refusing, &r.Entries)
	set(ctx, t.Addresses, d.Addresses, &r.Addresses)

	remove(ctx, t.Addresses, d.Addresses, &r.Addresses)
	remove(ctx, t.Entries, refusing, &r.Entries)
	remove(ctx, t.Entries, leading, &r.Entries)
	set(ctx, t.RealServers, resting, &r.RealServers)
	remove(ctx, t.RealServers, d.RealServers, &r.RealServers)
	if late {
		set(ctx, t.Entries, keeping, &r.Entries)
	}
	remove(ctx, t.VirtualServers, d.VirtualServers, &r.VirtualServers)
	remove(ctx, t.Links, d.Links, &r.Links)
	remove(ctx, t.Jumps, d.Jumps, &r.Jumps)
	remove(ctx, t.Chains, d.Chains, &r.Chains)
	remove(ctx, t.Entries, entries, &r.Entries)
	remove(ctx, t.Sets, d.Sets, &r.Sets)
	remove(ctx, t.Sysctls, d.Sysctls, &r.Sysctls)
	return r
}

// Split parts a delta by what a row is after it, or was if it is removed. A
// delta that is all of one kind, as most are, is not copied.
func Split[K, V comparable](d diff.Delta[K, V], is func(K, V) bool) (those, others diff.Delta[K, V]) {
	those.Remove, others.Remove = part(d.Remove, func(r diff.Row[K, V]) bool { return is(r.Key, r.Value) })
	those.Update, others.Update = part(d.Update, func(c diff.Change[K, V]) bool { return is(c.Key, c.New) })
	those.Add, others.Add = part(d.Add, func(r diff.Row[K, V]) bool { return is(r.Key, r.Value) })
	return those, others
}

func part[T any](list []T, is func(T) bool) (those, others []T) {
	if !slices.ContainsFunc(list, is) {
		return nil, list
	}
	for _, e := range list {
		if is(e) {
			those = append(those, e)
		} else {
			others = append(others, e)
		}
	}
	return those, others
}

// Coupled is a table of chains that can set rows of it and of the jumps to them
// for less together than one after the other. It says whether it has: only if the
// jumps are those of the same kernel, and nothing is between it and their table.
type Coupled interface {
	SetWith(context.Context, diff.Delta[state.ChainKey, state.Chain], Jumps, diff.Delta[state.JumpKey, state.Jump]) (Rules, bool)
}

// Jumps is the table of jumps.
type Jumps = Store[state.JumpKey, state.Jump]

// Rules are the results of a change of both tables of rules.
type Rules struct {
	Chains Result[state.ChainKey]
	Jumps  Result[state.JumpKey]
}

func (t Tables) setRules(ctx context.Context, d state.Delta, r *Results) {
	chains, jumps := forward(d.Chains), forward(d.Jumps)
	if together, ok := t.Chains.(Coupled); ok && chains.Len() > 0 && jumps.Len() > 0 {
		if done, ok := together.SetWith(ctx, chains, t.Jumps, jumps); ok {
			r.Chains.Merge(done.Chains)
			r.Jumps.Merge(done.Jumps)
			return
		}
	}
	set(ctx, t.Chains, d.Chains, &r.Chains)
	set(ctx, t.Jumps, d.Jumps, &r.Jumps)
}

func set[K, V comparable](ctx context.Context, s Store[K, V], d diff.Delta[K, V], r *Result[K]) {
	if d = forward(d); d.Len() > 0 {
		r.Merge(s.Apply(ctx, d))
	}
}

// forward is the part of d that makes or changes rows.
func forward[K, V comparable](d diff.Delta[K, V]) diff.Delta[K, V] {
	return diff.Delta[K, V]{Add: d.Add, Update: d.Update}
}

func remove[K, V comparable](ctx context.Context, s Store[K, V], d diff.Delta[K, V], r *Result[K]) {
	if len(d.Remove) > 0 {
		r.Merge(s.Apply(ctx, diff.Delta[K, V]{Remove: d.Remove}))
	}
}
