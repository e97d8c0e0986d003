// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"maps"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Parts are the stores of one table in the two firewalls. nil: this kernel is not asked for that part, and takes no row
// of it.
type Parts[K, V comparable] struct{ IPTables, NFTables Store[K, V] }

// Routed is a table whose rows are in one firewall or the other, by their keys.
func Routed[K, V comparable](p Parts[K, V], of func(K) state.Firewall) Store[K, V] {
	return routed[K, V]{p, of}
}

type routed[K, V comparable] struct {
	parts Parts[K, V]
	of    func(K) state.Firewall
}

func (p Parts[K, V]) on(w state.Firewall) Store[K, V] {
	if w == state.OnNFTables {
		return p.NFTables
	}
	return p.IPTables
}

// List returns the rows of both firewalls.
func (r routed[K, V]) List(ctx context.Context) (map[K]V, error) {
	all := map[K]V{}
	for _, w := range state.Firewalls() {
		s := r.parts.on(w)
		if s == nil {
			continue
		}
		rows, err := s.List(ctx)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			all = rows
		} else {
			maps.Copy(all, rows)
		}
	}
	return all, nil
}

// Apply makes the changes of d, each in its firewall.
func (r routed[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) (result Result[K]) {
	for _, w := range state.Firewalls() {
		mine := r.split(d, w)
		if mine.Len() == 0 {
			continue
		}
		result.Merge(r.apply(ctx, w, mine))
	}
	return result
}

func (r routed[K, V]) split(d diff.Delta[K, V], w state.Firewall) diff.Delta[K, V] {
	mine, _ := Split(d, func(k K, _ V) bool { return r.of(k) == w })
	return mine
}

func (r routed[K, V]) apply(ctx context.Context, w state.Firewall, d diff.Delta[K, V]) (result Result[K]) {
	if s := r.parts.on(w); s != nil {
		return s.Apply(ctx, d)
	}
	for k := range d.Keys() {
		result.Fail(k, fmt.Errorf("writing %v: the firewall %v is not in use here", k, w))
	}
	return result
}

// RoutedChains is Routed for chains, which set jumps of the same firewall together with them.
func RoutedChains(p Parts[state.ChainKey, state.Chain]) Store[state.ChainKey, state.Chain] {
	return routedChains{routed[state.ChainKey, state.Chain]{p, func(k state.ChainKey) state.Firewall { return k.Table.Firewall() }}}
}

// RoutedJumps is Routed for jumps.
func RoutedJumps(p Parts[state.JumpKey, state.Jump]) Jumps {
	return Routed(p, func(k state.JumpKey) state.Firewall { return k.Table.Firewall() })
}

type routedChains struct {
	routed[state.ChainKey, state.Chain]
}

var _ Coupled = routedChains{}

// SetWith sets chains and jumps together where a firewall can.
func (c routedChains) SetWith(ctx context.Context, d diff.Delta[state.ChainKey, state.Chain], jumps Jumps, e diff.Delta[state.JumpKey, state.Jump]) (Rules, bool) {
	j, ok := jumps.(routed[state.JumpKey, state.Jump])
	if !ok {
		return Rules{}, false
	}
	var all Rules
	for _, w := range state.Firewalls() {
		mine, led := c.split(d, w), j.split(e, w)
		if together, ok := c.parts.on(w).(Coupled); ok && mine.Len() > 0 && led.Len() > 0 {
			if r, done := together.SetWith(ctx, mine, j.parts.on(w), led); done {
				all.Chains.Merge(r.Chains)
				all.Jumps.Merge(r.Jumps)
				continue
			}
		}
		if mine.Len() > 0 {
			all.Chains.Merge(c.apply(ctx, w, mine))
		}
		if led.Len() > 0 {
			all.Jumps.Merge(j.apply(ctx, w, led))
		}
	}
	return all, true
}

// Retiring is a store of rows that are only to be removed: once it has listed none, it is not read any more.
func Retiring[K, V comparable](s Store[K, V]) *RetiringStore[K, V] {
	return &RetiringStore[K, V]{Store: s}
}

// RetiringStore is what Retiring returns.
type RetiringStore[K, V comparable] struct {
	Store[K, V]
	empty bool
}

// Retired reports whether the store is not read any more.
func (r *RetiringStore[K, V]) Retired() bool { return r.empty }

// List returns the rows, as long as there are some.
func (r *RetiringStore[K, V]) List(ctx context.Context) (map[K]V, error) {
	if r.empty {
		return map[K]V{}, nil
	}
	rows, err := r.Store.List(ctx)
	r.empty = err == nil && len(rows) == 0
	return rows, err
}
