// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"iter"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Dependent is a wished table with rows that count only if who wishes them also
// won the virtual server that they are for.
type Dependent[K, V comparable] struct {
	servers Table[state.VirtualServerKey, state.VirtualServer]
	on      func(K, V) (state.VirtualServerKey, bool) // false: on none, the row counts by itself
	claims  Table[K, V]
}

func newDependent[K, V comparable](
	servers Table[state.VirtualServerKey, state.VirtualServer], on func(K, V) (state.VirtualServerKey, bool),
) Dependent[K, V] {
	return Dependent[K, V]{servers, on, newTable[K, V]()}
}

func belongsTo(k state.RealServerKey, _ state.RealServer) (state.VirtualServerKey, bool) {
	return k.Server, true
}

// SteersTo is the virtual server to which an entry leads packets by a mark, if it
// does.
func SteersTo(e state.SetEntry, v state.Entry) (state.VirtualServerKey, bool) {
	if v.Mark == 0 {
		return state.VirtualServerKey{}, false
	}
	return state.MarkKey(state.FamilyOf(e.Address), v.Mark), true
}

// Get is the wished value of the row k, and whether the row is wished at all:
// the value of the first claimant who may wish it.
func (t Dependent[K, V]) Get(k K) (V, bool) {
	c, ok := t.first(k)
	return c.value, ok
}

// Owner is who wishes the row k, as Get finds it.
func (t Dependent[K, V]) Owner(k K) (Owner, bool) {
	c, ok := t.first(k)
	if !ok {
		return Owner{}, false
	}
	return c.by.owner, true
}

func (t Dependent[K, V]) first(k K) (claim[V], bool) {
	c, claimed := t.claims.winners[k]
	if claimed && t.counts(k, c) {
		return c, true
	}
	for _, c := range t.claims.losers[k] {
		if t.counts(k, c) {
			return c, true
		}
	}
	return claim[V]{}, false
}

func (t Dependent[K, V]) counts(k K, c claim[V]) bool {
	server, dependent := t.on(k, c.value)
	return !dependent || t.servers.winners[server].by == c.by
}

// Len is how many rows are wished by anybody, whether they count or not.
func (t Dependent[K, V]) Len() int { return t.claims.Len() }

// All yields the wished rows in no order.
func (t Dependent[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k := range t.claims.winners {
			if v, ok := t.Get(k); ok && !yield(k, v) {
				return
			}
		}
	}
}

// change touches every row that c's delta names, whether c wins it or not.
func (t Dependent[K, V]) change(c *claimant, d diff.Delta[K, V]) []K {
	touched := make([]K, 0, d.Len())
	t.claims.enter(c, d, func(k K, _ bool) { touched = append(touched, k) })
	return touched
}
