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
	chainRows, jumpRows := s.split(d, &r.Chains), splitJumps(e)
	families := slices.AppendSeq(slices.Collect(maps.Keys(chainRows)), maps.Keys(jumpRows))
	slices.Sort(families)
	for _, f := range slices.Compact(families) {
		tables, err := s.c.lastLook(ctx, f)
		if err != nil {
			failAll(chainRows[f], &r.Chains, err)
			failAll(jumpRows[f], &r.Jumps, err)
			continue
		}
		s.c.commit(ctx, f, append(s.writes(tables, chainRows[f], &r.Chains), j.pieces(tables, jumpRows[f], &r.Jumps)...))
	}
	return r, true
}

// failAll fails rows whose tables could not be looked at.
func failAll[W interface{ fail(*R, error) }, R any](work []W, r *R, err error) {
	for _, w := range work {
		w.fail(r, err)
	}
}
