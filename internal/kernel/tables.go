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

// kinds are the types of the rows of each table.
func kinds() [state.Tables]kind {
	return [state.Tables]kind{
		state.Sysctls:        rowsOf[state.SysctlName, string]{},
		state.Sets:           rowsOf[state.SetName, state.Set]{},
		state.Entries:        rowsOf[state.SetEntry, state.Entry]{},
		state.Chains:         rowsOf[state.ChainKey, state.Chain]{},
		state.Jumps:          rowsOf[state.JumpKey, state.Jump]{},
		state.Links:          rowsOf[state.LinkName, state.Link]{},
		state.VirtualServers: rowsOf[state.VirtualServerKey, state.VirtualServer]{},
		state.RealServers:    rowsOf[state.RealServerKey, state.RealServer]{},
		state.Addresses:      rowsOf[state.Address, state.Binding]{},
	}
}

// kind is what can be done with the store and the result of a table without the types of its rows.
type kind interface {
	inTables
	inResults
}

type inTables interface {
	list(context.Context, state.Table, *Tables, *state.State) error
	absent(t state.Table, into *Tables, refusal error)
}

type inResults interface {
	failures(t state.Table, r *Results, limit int, first *[]error)
	drift(state.Table, *Results) int
	written(t state.Table, d *state.Delta, r *Results, f func(verb string, key any))
}

type rowsOf[K, V comparable] struct{}

func (rowsOf[K, V]) list(ctx context.Context, t state.Table, from *Tables, s *state.State) error {
	return List(ctx, t, *state.Part[Store[K, V]](t, from), state.Part[map[K]V](t, s))
}

func (rowsOf[K, V]) absent(t state.Table, into *Tables, refusal error) {
	*state.Part[Store[K, V]](t, into) = absent[K, V]{refusal}
}

func (rowsOf[K, V]) failures(t state.Table, r *Results, limit int, first *[]error) {
	for _, err := range state.Part[Result[K]](t, r).Failed {
		if len(*first) == limit {
			return
		}
		*first = append(*first, err)
	}
}

func (rowsOf[K, V]) written(t state.Table, d *state.Delta, r *Results, f func(verb string, key any)) {
	part, result := state.Part[diff.Delta[K, V]](t, d), state.Part[Result[K]](t, r)
	done := func(verb string, k K) {
		if _, failed := result.Failed[k]; !failed {
			f(verb, k)
		}
	}
	for _, row := range part.Remove {
		done("removed", row.Key)
	}
	for _, c := range part.Update {
		done("changed", c.Key)
	}
	for _, row := range part.Add {
		done("added", row.Key)
	}
}

func (rowsOf[K, V]) drift(t state.Table, r *Results) int { return state.Part[Result[K]](t, r).Drift }

// Absent are tables without rows, which refuse every change with an error; nil: they take all changes and keep nothing.
func Absent(refusal error) Tables {
	var t Tables
	for table, k := range kinds() {
		k.absent(state.Table(table), &t, refusal)
	}
	return t
}

type absent[K, V comparable] struct{ refusal error }

func (absent[K, V]) List(context.Context) (map[K]V, error) { return map[K]V{}, nil }

func (s absent[K, V]) Apply(_ context.Context, d diff.Delta[K, V]) (r Result[K]) {
	if s.refusal != nil {
		for k := range d.Keys() {
			r.Fail(k, s.refusal)
		}
	}
	return r
}

// List reads all tables, in one Round. A table that can't be read is left nil in the State and named in the error; the
// others are still returned.
func (t Tables) List(ctx context.Context) (state.State, error) {
	return listAll(ctx, t.ListOne)
}

// listAll lists one table after the other, in one Round.
func listAll(ctx context.Context, list func(context.Context, state.Table, *state.State) error) (s state.State, err error) {
	if RoundOf(ctx) == nil {
		ctx = NewRound(ctx)
	}
	for table := range state.Tables {
		err = errors.Join(err, list(ctx, table, &s))
	}
	return s, err
}

// Packs is a table of real servers that lists them packed, in a third of the memory of rows.
type Packs interface {
	ListPacked(context.Context) (state.Packed, error)
}

// Observe is List, but for the real servers, which are packed.
func (t Tables) Observe(ctx context.Context) (state.State, state.Packed, error) {
	var reals state.Packed
	s, err := listAll(ctx, func(ctx context.Context, table state.Table, s *state.State) (err error) {
		if table != state.RealServers {
			return t.ListOne(ctx, table, s)
		}
		if reals, err = listPacked(ctx, t.RealServers); err != nil {
			err = fmt.Errorf("listing %s: %w", table.Title(), err)
		}
		return err
	})
	return s, reals, err
}

func listPacked(ctx context.Context, s Store[state.RealServerKey, state.RealServer]) (state.Packed, error) {
	if packs, ok := s.(Packs); ok {
		return packs.ListPacked(ctx)
	}
	rows, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	return state.PackReals(rows), nil
}

// ListOne reads one table into s.
func (t Tables) ListOne(ctx context.Context, table state.Table, s *state.State) error {
	return kinds()[table].list(ctx, table, &t, s)
}

// List reads one table into a map; the error names it.
func List[K, V comparable](ctx context.Context, t state.Table, s Store[K, V], into *map[K]V) error {
	rows, err := s.List(ctx)
	if err != nil {
		return fmt.Errorf("listing %s: %w", t.Title(), err)
	}
	*into = rows
	return nil
}

// Apply makes the changes of d in the order that keeps packets safe.
//
// Rows are added and updated forward: a packet finds its masquerade and filter rules before the virtual server that
// makes it one of ours, and the address that attracts it last. They are removed backward: the address first, and the
// set entries, by which ownership of a virtual server is known after a crash, when the virtual server is gone.
//
// A set entry may lead packets to another virtual server than their address would. It comes after that one's real
// servers and leaves before them. A real server that is to get no more connections (weight 0) is one that leaves: its
// successors are there by then.
//
// What is led elsewhere is not refused, so an entry that refuses comes after those that lead, and leaves before them.
//
// A set entry by which clients keep their address leaves before real servers come, and comes after they have left:
// those of other nodes answer only to this node's address.
//
// Ranges of sources in nftables come and go together, in one transaction: it refuses one that overlaps another.
func (t Tables) Apply(ctx context.Context, d state.Delta) Results {
	var r Results
	leading, entries := Split(d.Entries, func(e state.SetEntry, v state.Entry) bool { _, leads := e.LeadsTo(v); return leads })
	refusing, entries := Split(entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set.Refuses() })
	keeping, entries := Split(entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set.KeepsClient() })
	ranges, entries := Split(entries, func(e state.SetEntry, _ state.Entry) bool {
		return e.Set.HoldsSources() && e.Set.Firewall() == state.OnNFTables
	})
	resting, servers := Split(d.RealServers, func(_ state.RealServerKey, s state.RealServer) bool { return s.Weight == 0 })
	set(ctx, t.Sysctls, d.Sysctls, &r.Sysctls)
	set(ctx, t.Sets, d.Sets, &r.Sets)
	set(ctx, t.Entries, entries, &r.Entries)
	if ranges.Len() > 0 {
		r.Entries.Merge(t.Entries.Apply(ctx, ranges))
	}
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

// Split parts a delta by what a row is after it, or was if it is removed. A delta that is all of one kind, as most are,
// is not copied.
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

// Coupled is a table of chains that can set rows of it and of the jumps to them for less together than one after the
// other. It reports whether it has: only if the jumps are those of the same kernel, and nothing is between it and their
// table.
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
