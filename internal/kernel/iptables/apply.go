// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// work is what has to happen to one row of the table of chains or of jumps.
type work[K, V comparable] struct {
	noun     string
	key      K
	value    V
	remove   bool
	expected bool // to be there already
}

type (
	chainWork = work[state.ChainKey, state.Chain]
	jumpWork  = work[state.JumpKey, state.Jump]
)

func (w work[K, V]) fail(r *kernel.Result[K], err error) {
	verb := "writing"
	if w.remove {
		verb = "removing"
	}
	r.Fail(w.key, fmt.Errorf("%s %s %v: %w", verb, w.noun, w.key, err))
}

// byFamily groups the rows of d by family.
func byFamily[K, V comparable](noun string, d diff.Delta[K, V], family func(K) state.Family) map[state.Family][]work[K, V] {
	all := map[state.Family][]work[K, V]{}
	add := func(k K, v V, remove, expected bool) {
		all[family(k)] = append(all[family(k)], work[K, V]{noun, k, v, remove, expected})
	}
	for _, row := range d.Remove {
		add(row.Key, row.Value, true, true)
	}
	for _, c := range d.Update {
		add(c.Key, c.New, false, true)
	}
	for _, row := range d.Add {
		add(row.Key, row.Value, false, false)
	}
	return all
}

// Apply makes the changes of d, with one iptables-save a family, and one iptables-restore for each of removing and
// writing.
func (s chains) Apply(ctx context.Context, d diff.Delta[state.ChainKey, state.Chain]) chainResult {
	return s.c.apply(ctx, d, diff.Delta[state.JumpKey, state.Jump]{}).Chains
}

// Apply makes the changes of d, with one iptables-save and one iptables-restore a family.
func (s jumps) Apply(ctx context.Context, d diff.Delta[state.JumpKey, state.Jump]) jumpResult {
	return s.c.apply(ctx, diff.Delta[state.ChainKey, state.Chain]{}, d).Jumps
}

var _ kernel.Coupled = chains{}

// SetWith adds and updates chains and jumps, with one iptables-save and one iptables-restore a family.
func (s chains) SetWith(
	ctx context.Context, d diff.Delta[state.ChainKey, state.Chain], other kernel.Jumps, e diff.Delta[state.JumpKey, state.Jump],
) (kernel.Rules, bool) {
	j, ok := other.(jumps)
	if !ok || j.c != s.c || len(d.Remove)+len(e.Remove) > 0 {
		return kernel.Rules{}, false
	}
	return s.c.apply(ctx, d, e), true
}

// apply makes changes of chains and jumps, family by family.
func (c *Conn) apply(ctx context.Context, d diff.Delta[state.ChainKey, state.Chain], e diff.Delta[state.JumpKey, state.Jump]) (r kernel.Rules) {
	chains := byFamily("chain", d, func(k state.ChainKey) state.Family { return k.Family })
	jumps := byFamily("jump", e, func(k state.JumpKey) state.Family { return k.Family })
	families := slices.AppendSeq(slices.Collect(maps.Keys(chains)), maps.Keys(jumps))
	slices.Sort(families)
	for _, f := range slices.Compact(families) {
		tables, err := c.lastLook(ctx, f)
		if err != nil {
			for _, w := range chains[f] {
				w.fail(&r.Chains, err)
			}
			for _, w := range jumps[f] {
				w.fail(&r.Jumps, err)
			}
			continue
		}
		own := c.own(chains[f], &r.Chains)
		c.commit(ctx, f, removals(tables, own, &r.Chains))
		c.commit(ctx, f, append(writes(tables, own, &r.Chains), c.jumpPieces(tables, jumps[f], &r.Jumps)...))
	}
	return r
}
