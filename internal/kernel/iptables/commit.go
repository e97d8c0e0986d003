// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// piece is what iptables-restore writes for one row. The lines in first of all pieces of a table go before
// those in then of any: chains are declared before rules go to them, and emptied before they are deleted.
type piece struct {
	table       state.RuleTable
	first, then []string
	done        func(error) // takes what became of it
}

// commit writes the pieces of a family, all at once if none is bad, and passes to each what became of it. A
// bad piece does not keep the others from being written. Tables are committed one after the other: those
// before the line that is refused are in the kernel, nothing of its own is.
func (c *Conn) commit(ctx context.Context, f state.Family, rest []piece) {
	rest = inOrder(rest)
	for len(rest) > 0 {
		s := scriptOf(rest)
		err := c.restore(ctx, f, s)
		refused, ok := errors.AsType[*toolError](err)
		if err == nil || !ok || refused.exit == exitBusy || len(rest) == 1 {
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

// oneByOne writes each piece by itself, again while that makes progress: a chain can be written only when
// those that it goes to are there.
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

// inOrder puts the pieces of one table next to each other.
func inOrder(pieces []piece) []piece {
	return slices.SortedStableFunc(slices.Values(pieces), func(a, b piece) int {
		return slices.Index(ruleTables(), a.table) - slices.Index(ruleTables(), b.table)
	})
}
