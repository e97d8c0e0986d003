// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Was is what was desired of a row before a change.
type Was[K, V comparable] struct {
	Key   K
	Value V    // the zero one unless There
	There bool // it was desired
}

// Table is one desired table, merged from the claims of many owners. What an owner claims is in its own sorted rows and
// nowhere else; here is only whose row counts. Almost every row has one claim, so the losing ones have a map of their
// own.
type Table[K state.Key[K], V comparable] struct {
	id      state.Table
	rows    func(*claimant) []diff.Row[K, V]
	rank    func(*claimant, K) state.Rank
	winners map[K]*claimant
	losers  map[K][]*claimant // in order of precedence
}

func newTable[K state.Key[K], V comparable](id state.Table, rows func(*claimant) []diff.Row[K, V], rank func(*claimant, K) state.Rank) Table[K, V] {
	return Table[K, V]{id, rows, rank, map[K]*claimant{}, map[K][]*claimant{}}
}

func (t Table[K, V]) collect(s *state.State) { *state.Part[map[K]V](t.id, s) = maps.Collect(t.All()) }

func (t Table[K, V]) families(touched *Touched) state.Families {
	found := state.NoFamily
	for _, w := range *state.Part[[]Was[K, V]](t.id, touched) {
		if found |= w.Key.Families(); found == state.BothFamilies {
			break
		}
	}
	return found
}

func (t Table[K, V]) mergeFirst(a, b *Touched) {
	before := *state.Part[[]Was[K, V]](t.id, a)
	known := make(map[K]struct{}, len(before))
	for _, w := range before {
		known[w.Key] = struct{}{}
	}
	part := state.Part[[]Was[K, V]](t.id, b)
	*part = append(before, slices.DeleteFunc(*part, func(w Was[K, V]) bool {
		_, changed := known[w.Key]
		return changed
	})...)
}

func (t Table[K, V]) changeShared(before, c *claimant, touched *Touched) {
	*state.Part[[]Was[K, V]](t.id, touched) = t.change(c, diff.OfRows(t.rows(before), t.rows(c), K.Compare))
}

// newShared is for a table that does not grow with the cluster. Every claim there is as good as any other.
func newShared[K state.Key[K], V comparable](id state.Table) Table[K, V] {
	return newTable(id, shared[K, V](id), func(*claimant, K) state.Rank { return state.Allocated })
}

// Get is the desired value of the row k, and whether the row is desired at all.
func (t Table[K, V]) Get(k K) (V, bool) {
	c, ok := t.winners[k]
	if !ok {
		var none V
		return none, false
	}
	return t.value(c, k), true
}

// value is what c wants the row k to be, which it claims.
func (t Table[K, V]) value(c *claimant, k K) V {
	rows := t.rows(c)
	i, _ := slices.BinarySearchFunc(rows, k, func(r diff.Row[K, V], k K) int { return r.Key.Compare(k) })
	return rows[i].Value
}

// Len is how many rows are desired.
func (t Table[K, V]) Len() int { return len(t.winners) }

// Owner is the owner that claims the row k and wins it, if there is one.
func (t Table[K, V]) Owner(k K) (Owner, bool) {
	c, ok := t.winners[k]
	if !ok {
		return Owner{}, false
	}
	return c.owner, true
}

// Contested is how many rows have more than one claim.
func (t Table[K, V]) Contested() int { return len(t.losers) }

// All yields the desired rows in no order.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, c := range t.winners {
			if !yield(k, t.value(c, k)) {
				return
			}
		}
	}
}

// change makes d, which is in the rows of by already, the change of what by claims. It returns what the rows were whose
// effective value or owner changed.
func (t Table[K, V]) change(by *claimant, d diff.Delta[K, V]) []Was[K, V] {
	touched := make([]Was[K, V], 0, d.Len())
	for _, r := range d.Remove {
		if t.drop(r.Key, by) {
			touched = append(touched, Was[K, V]{r.Key, r.Value, true})
		}
	}
	for _, c := range d.Update {
		if t.winners[c.Key] == by {
			touched = append(touched, Was[K, V]{c.Key, c.Old, true})
		}
	}
	for _, r := range d.Add {
		before := Was[K, V]{Key: r.Key}
		before.Value, before.There = t.Get(r.Key)
		if t.put(r.Key, by) {
			touched = append(touched, before)
		}
	}
	return touched
}

// put notes a new claim and reports whether it wins.
func (t Table[K, V]) put(k K, by *claimant) bool {
	won, claimed := t.winners[k]
	switch {
	case !claimed:
		t.winners[k] = by
		return true
	case t.order(k, by, won) < 0:
		t.winners[k] = by
		t.lose(k, won)
		return true
	}
	t.lose(k, by)
	return false
}

// order is that of two claims to the row k: the better comes first.
func (t Table[K, V]) order(k K, a, b *claimant) int {
	return cmp.Or(cmp.Compare(t.rank(a, k), t.rank(b, k)), a.compare(b))
}

func (t Table[K, V]) lose(k K, c *claimant) {
	claims := t.losers[k]
	i, _ := slices.BinarySearchFunc(claims, c, func(a, b *claimant) int { return t.order(k, a, b) })
	t.losers[k] = slices.Insert(claims, i, c)
}

// drop takes a claim back and reports whether it was the winning one.
func (t Table[K, V]) drop(k K, by *claimant) bool {
	won := t.winners[k] == by
	rest := t.losers[k]
	switch {
	case !won:
		rest = slices.DeleteFunc(rest, func(c *claimant) bool { return c == by })
	case len(rest) > 0:
		t.winners[k], rest = rest[0], rest[1:]
	default:
		delete(t.winners, k)
	}
	if len(rest) == 0 {
		delete(t.losers, k)
	} else {
		t.losers[k] = rest
	}
	return won
}

// lost reports whether c claims the row k, and another has it.
func (t Table[K, V]) lost(k K, c *claimant) bool {
	if won, claimed := t.winners[k]; !claimed || won == c {
		return false
	}
	_, claims := slices.BinarySearchFunc(t.rows(c), k, func(r diff.Row[K, V], k K) int { return r.Key.Compare(k) })
	return claims
}

// foremost are the claimant that has the row k and the next in line, as far as there are any.
func (t Table[K, V]) foremost(k K) []*claimant {
	won, claimed := t.winners[k]
	if !claimed {
		return nil
	}
	next := t.losers[k]
	return append([]*claimant{won}, next[:min(len(next), 1)]...)
}

// claimants are all that claim the row k, the winner first.
func (t Table[K, V]) claimants(k K) []*claimant {
	c, ok := t.winners[k]
	if !ok {
		return nil
	}
	return append([]*claimant{c}, t.losers[k]...)
}
