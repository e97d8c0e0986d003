// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
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

func byFamily[K, V comparable](noun string, d diff.Delta[K, V], family func(K) state.Family) map[state.Family][]work[K, V] {
	all := map[state.Family][]work[K, V]{}
	for w := range kernel.EachWork(d) {
		f := family(w.Key)
		all[f] = append(all[f], work[K, V]{noun, w.Key, w.Value, w.Remove, w.Expected})
	}
	return all
}

// Apply makes the changes of d, with one iptables-save a family, and one iptables-restore to remove and to write.
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
		removed, written := c.own(chains[f], &r.Chains)
		c.commit(ctx, f, removals(tables, removed, &r.Chains))
		c.commit(ctx, f, append(writes(tables, written, &r.Chains), c.jumpPieces(tables, jumps[f], &r.Jumps)...))
	}
	return r
}

// piece is what iptables-restore writes for one row. The lines in first of all pieces of a table go before those in
// then of any: chains are declared before rules go to them, and emptied before they are deleted.
type piece struct {
	table       state.RuleTable
	first, then []string
	done        func(error) // takes what became of it
}

// commit writes the pieces of a family, all at once if none is bad, and passes to each what became of it. Tables are
// committed one after the other: those before the line that is refused are in the kernel.
func (c *Conn) commit(ctx context.Context, f state.Family, rest []piece) {
	slices.SortStableFunc(rest, func(a, b piece) int { // those of one table together
		return slices.Index(ruleTables(), a.table) - slices.Index(ruleTables(), b.table)
	})
	for len(rest) > 0 {
		s := scriptOf(rest)
		err := c.restore(ctx, f, s)
		refused, ok := errors.AsType[*toolError](err)
		if err == nil || !ok || refused.busy() || len(rest) == 1 {
			for _, p := range rest {
				p.done(err)
			}
			return
		}
		at := s.at(refused.line)
		for _, p := range rest[:at.from] {
			p.done(nil)
		}
		if at.piece == noPiece {
			c.oneByOne(ctx, f, rest[at.from:at.to])
			rest = rest[at.to:]
		} else {
			rest[at.piece].done(err)
			rest = slices.Delete(rest, at.piece, at.piece+1)[at.from:]
		}
	}
}

// oneByOne writes each piece by itself, again while that makes progress, as chains need those that they go to.
func (c *Conn) oneByOne(ctx context.Context, f state.Family, pieces []piece) {
	rest := slices.Clone(pieces)
	var refused []error
	for progress := true; progress; {
		refused, progress = nil, false
		rest = slices.DeleteFunc(rest, func(p piece) bool {
			err := c.restore(ctx, f, scriptOf([]piece{p}))
			if err != nil {
				refused = append(refused, err)
				return false
			}
			p.done(nil)
			progress = true
			return true
		})
	}
	for i, p := range rest {
		p.done(refused[i])
	}
}
