// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"iter"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
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
	winners map[K]*claimant
	losers  map[K][]*claimant // in order of precedence
}

func newTable[K, V comparable](rows func(*claimant) []diff.Row[K, V], compare func(a, b K) int) Table[K, V] {
	return Table[K, V]{rows, compare, map[K]*claimant{}, map[K][]*claimant{}}
}

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
	case by.before(won):
		t.winners[k] = by
		t.losers[k] = insert(t.losers[k], won)
		return true
	}
	t.losers[k] = insert(t.losers[k], by)
	return false
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

// claimants are all who wish for the row k, the winner first.
func (t Table[K, V]) claimants(k K) []*claimant {
	c, ok := t.winners[k]
	if !ok {
		return nil
	}
	return append([]*claimant{c}, t.losers[k]...)
}

func insert(claims []*claimant, c *claimant) []*claimant {
	i, _ := slices.BinarySearchFunc(claims, c, (*claimant).compare)
	return slices.Insert(claims, i, c)
}
