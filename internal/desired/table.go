// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"iter"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

// claim is one owner's wish for a row.
type claim[V comparable] struct {
	by    *claimant
	value V
}

// Table is one wished table, merged from the claims of many owners. Almost
// every row has one claim, so the losing ones live in a map of their own.
type Table[K, V comparable] struct {
	winners map[K]claim[V]
	losers  map[K][]claim[V] // in order of precedence
}

func newTable[K, V comparable]() Table[K, V] {
	return Table[K, V]{winners: map[K]claim[V]{}, losers: map[K][]claim[V]{}}
}

// Get is the wished value of the row k, and whether the row is wished at all.
func (t Table[K, V]) Get(k K) (V, bool) {
	c, ok := t.winners[k]
	return c.value, ok
}

// Len is how many rows are wished.
func (t Table[K, V]) Len() int { return len(t.winners) }

// Owner is who wishes the row k and wins it, if anybody does.
func (t Table[K, V]) Owner(k K) (Owner, bool) {
	c, ok := t.winners[k]
	if !ok {
		return Owner{}, false
	}
	return c.by.owner, true
}

// Contested is how many rows have more than one claim.
func (t Table[K, V]) Contested() int { return len(t.losers) }

// All yields the wished rows in no order.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, c := range t.winners {
			if !yield(k, c.value) {
				return
			}
		}
	}
}

// change makes d the change of what by wishes, and returns the keys whose
// effective row or owner changed.
func (t Table[K, V]) change(by *claimant, d diff.Delta[K, V]) []K {
	touched := make([]K, 0, d.Len())
	t.enter(by, d, func(k K, changed bool) {
		if changed {
			touched = append(touched, k)
		}
	})
	return touched
}

// enter makes d the change of what by wishes, and notes of each row whether the
// effective one or its owner changed.
func (t Table[K, V]) enter(by *claimant, d diff.Delta[K, V], note func(K, bool)) {
	for _, r := range d.Remove {
		note(r.Key, t.drop(r.Key, by))
	}
	for _, c := range d.Update {
		note(c.Key, t.put(c.Key, c.New, by))
	}
	for _, r := range d.Add {
		note(r.Key, t.put(r.Key, r.Value, by))
	}
}

func (t Table[K, V]) put(k K, v V, by *claimant) bool {
	won, claimed := t.winners[k]
	switch {
	case !claimed || won.by == by:
		t.winners[k] = claim[V]{by, v}
		return true
	case by.before(won.by):
		t.winners[k] = claim[V]{by, v}
		t.losers[k] = insert(t.losers[k], won)
		return true
	}
	t.losers[k] = insert(without(t.losers[k], by), claim[V]{by, v})
	return false
}

func (t Table[K, V]) drop(k K, by *claimant) bool {
	won := t.winners[k].by == by
	rest := t.losers[k]
	switch {
	case !won:
		rest = without(rest, by)
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

// claimants are all who wish for the row k, the winner first.
func (t Table[K, V]) claimants(k K) []*claimant {
	c, ok := t.winners[k]
	if !ok {
		return nil
	}
	all := []*claimant{c.by}
	for _, l := range t.losers[k] {
		all = append(all, l.by)
	}
	return all
}

func insert[V comparable](claims []claim[V], c claim[V]) []claim[V] {
	i, _ := slices.BinarySearchFunc(claims, c, func(a, b claim[V]) int { return a.by.compare(b.by) })
	return slices.Insert(claims, i, c)
}

func without[V comparable](claims []claim[V], by *claimant) []claim[V] {
	return slices.DeleteFunc(claims, func(c claim[V]) bool { return c.by == by })
}
