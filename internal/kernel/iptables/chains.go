// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type chains struct{ c *Conn }

type chainResult = kernel.Result[state.ChainKey]

// List returns our chains and their rules.
func (s chains) List(ctx context.Context) (map[state.ChainKey]state.Chain, error) {
	rows := map[state.ChainKey]state.Chain{}
	err := s.c.each(ctx, "chains", func(f state.Family, name state.RuleTable, table saved) {
		for chain, builtIn := range table.builtIn {
			if !builtIn && s.c.ours(chain) && slices.Contains(ruleTables(), name) {
				rows[state.ChainKey{Family: f, Table: name, Name: chain}] = state.ChainOf(table.rules[chain]...)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// own returns the rows of our chains. The others fail: writing a chain begins with emptying it.
func (c *Conn) own(work []chainWork, r *chainResult) (removed, written []chainWork) {
	for _, w := range work {
		switch {
		case !c.ours(w.key.Name):
			w.fail(r, errors.New("it is none of ours"))
		case w.remove:
			removed = append(removed, w)
		default:
			written = append(written, w)
		}
	}
	return removed, written
}

// removals empty and delete chains that no remaining chain goes to. The kernel would not say why it refuses.
func removals(tables snapshot, work []chainWork, r *chainResult) []piece {
	there := slices.DeleteFunc(work, func(w chainWork) bool { return !tables.has(w.key) })
	r.Drift += len(work) - len(there)
	var pieces []piece
	for _, w := range free(tables, there, r) {
		pieces = append(pieces, piece{
			table: w.key.Table,
			first: []string{"-F " + w.key.Name},
			then:  []string{"-X " + w.key.Name},
			done: func(err error) {
				if err != nil {
					w.fail(r, err)
				}
			},
		})
	}
	return pieces
}

// free returns the rows of chains that no remaining chain goes to. A chain that remains holds its targets, too.
func free(tables snapshot, work []chainWork, r *chainResult) []chainWork {
	holders := map[state.RuleTable]map[string][]string{}
	leaving := map[state.ChainKey]bool{}
	for _, w := range work {
		leaving[w.key] = true
		if holders[w.key.Table] == nil {
			holders[w.key.Table] = tables[w.key.Table].holders()
		}
	}
	for again := true; again; {
		again = false
		work = slices.DeleteFunc(work, func(w chainWork) bool {
			for _, name := range holders[w.key.Table][w.key.Name] {
				if !leaving[state.ChainKey{Family: w.key.Family, Table: w.key.Table, Name: name}] {
					w.fail(r, fmt.Errorf("chain %s still goes to it", name))
					delete(leaving, w.key)
					again = true
					return true
				}
			}
			return false
		})
	}
	return work
}

func writes(tables snapshot, work []chainWork, r *chainResult) []piece {
	var pieces []piece
	for _, w := range work {
		p := piece{table: w.key.Table, done: func(err error) {
			if err != nil {
				w.fail(r, err)
			} else if tables.has(w.key) != w.expected {
				r.Drift++
			}
		}}
		p.first = []string{":" + w.key.Name + " - [0:0]"} // makes it, or empties it
		for _, rule := range w.value.Lines() {
			p.then = append(p.then, "-A "+w.key.Name+" "+rule)
		}
		pieces = append(pieces, p)
	}
	return pieces
}
