// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Apply makes the changes of d, with one iptables-save a family, and one iptables-restore for each of removing and
// writing.
func (s chains) Apply(ctx context.Context, d diff.Delta[state.ChainKey, state.Chain]) chainResult {
	var r kernel.Rules
	s.c.apply(ctx, s.split(d, &r.Chains), nil, &r)
	return r.Chains
}

// Apply makes the changes of d, with one iptables-save and one iptables-restore a family.
func (s jumps) Apply(ctx context.Context, d diff.Delta[state.JumpKey, state.Jump]) jumpResult {
	var r kernel.Rules
	s.c.apply(ctx, nil, splitJumps(d), &r)
	return r.Jumps
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
	var r kernel.Rules
	s.c.apply(ctx, s.split(d, &r.Chains), splitJumps(e), &r)
	return r, true
}

// apply makes changes of chains and jumps, family by family.
func (c *Conn) apply(ctx context.Context, chains map[state.Family][]chainWork, jumps map[state.Family][]jumpWork, r *kernel.Rules) {
	families := slices.AppendSeq(slices.Collect(maps.Keys(chains)), maps.Keys(jumps))
	slices.Sort(families)
	for _, f := range slices.Compact(families) {
		tables, err := c.lastLook(ctx, f)
		if err != nil {
			failAll(chains[f], &r.Chains, err)
			failAll(jumps[f], &r.Jumps, err)
			continue
		}
		c.commit(ctx, f, removals(tables, chains[f], &r.Chains))
		c.commit(ctx, f, append(writes(tables, chains[f], &r.Chains), c.jumpPieces(tables, jumps[f], &r.Jumps)...))
	}
}

// failAll fails rows whose tables could not be read.
func failAll[W interface{ fail(*R, error) }, R any](work []W, r *R, err error) {
	for _, w := range work {
		w.fail(r, err)
	}
}
