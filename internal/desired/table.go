// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"cmp"
	"iter"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Was is what the wish for a row was before a change.
type Was[K, V comparable] struct {
	Key   K
	Value V    // the zero one unless There
	There bool // it was wished
}

// Table is one wished table, merged from the claims of many owners. What an owner
// wishes is in its own sorted rows and nowhere else; here is only whose row
// counts. Almost every row has one claim, so the losing ones live in a map of
// their own.
type Table[K, V comparable] struct {
	rows    func(*claimant) []diff.Row[K, V]
	compare func(a, b K) int
	rank    func(*claimant, K) state.Rank
	winners map[K]*claimant
	losers  map[K][]*claimant // in order of precedence
}

func newTable[K, V comparable](rows func(*claimant) []diff.Row[K, V], compare func(a, b K) int, rank func(*claimant, K) state.Rank) Table[K, V] {
	return Table[K, V]{rows, compare, rank, map[K]*claimant{}, map[K][]*claimant{}}
}

// unranked is for the tables of which every claim is as good as any other.
func unranked[K comparable](*claimant, K) state.Rank { return state.Allocated }

// Get is the wished value of the row k, and whether the row is wished at all.
func (t Table[K, V]) Get(k K) (V, bool) {
	c, ok := t.winners[k]
	if !ok {
		var none V
		return none, false
	}
	return t.value(c, k), true
}

// value is what c wishes the row k to be, which it claims.
func (t Table[K, V]) value(c *claimant, k K) V {
	rows := t.rows(c)
	i, _ := slices.BinarySearchFunc(rows, k, func(r diff.Row[K, V], k K) int { return t.compare(r.Key, k) })
	return rows[i].Value
}

// Len is how many rows are wished.
func (t Table[K, V]) Len() int { return len(t.winners) }

// Owner is who wishes the row k and wins it, if anybody does.
func (t Table[K, V]) Owner(k K) (Owner, bool) {
	c, ok := t.winners[k]
	if !ok {
		return Owner{}, false
	}
	return c.owner, true
}

// Contested is how many rows have more than one claim.
func (t Table[K, V]) Contested() int { return len(t.losers) }

// All yields the wished rows in no order.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, c := range t.winners {
			if !yield(k, t.value(c, k)) {
				return
			}
		}
	}
}

// change makes d, that is in the rows of by already, the change of what by
// wishes. It returns what the rows were whose effective value or owner changed.
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

// put notes a new claim and says whether it wins.
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

// drop takes a claim back and says whether it was the winning one.
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
	_, claims := slices.BinarySearchFunc(t.rows(c), k, func(r diff.Row[K, V], k K) int { return t.compare(r.Key, k) })
	return claims
}

// foremost are who has the row k and who is next in line, as far as there are any.
func (t Table[K, V]) foremost(k K) []*claimant {
	won, claimed := t.winners[k]
	if !claimed {
		return nil
	}
	next := t.losers[k]
	return append([]*claimant{won}, next[:min(len(next), 1)]...)
}

// claimants are all who wish for the row k, the winner first.
func (t Table[K, V]) claimants(k K) []*claimant {
	c, ok := t.winners[k]
	if !ok {
		return nil
	}
	return append([]*claimant{c}, t.losers[k]...)
}
