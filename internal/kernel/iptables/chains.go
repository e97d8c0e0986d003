// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type chains struct{ c *Conn }

type chainResult = kernel.Result[state.ChainKey]

// List returns our chains and their rules.
func (s chains) List(ctx context.Context) (map[state.ChainKey]state.Chain, error) {
	rows := map[state.ChainKey]state.Chain{}
	for _, f := range s.c.families {
		tables, err := s.c.look(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("listing %v chains: %w", f, err)
		}
		for _, table := range ruleTables() {
			for name, builtIn := range tables[table].builtIn {
				if !builtIn && s.c.ours(name) {
					key := state.ChainKey{Family: f, Table: table, Name: name}
					rows[key] = state.ChainOf(tables[table].rules[name]...)
				}
			}
		}
	}
	return rows, nil
}

// chainWork is what has to happen to one row.
type chainWork struct {
	key      state.ChainKey
	value    state.Chain
	remove   bool
	expected bool // to be there already
}

func (w chainWork) fail(r *chainResult, err error) {
	verb := "writing"
	if w.remove {
		verb = "removing"
	}
	r.Fail(w.key, fmt.Errorf("%s chain %v: %w", verb, w.key, err))
}

// split groups the rows by family. Chains that are not ours are refused: writing one would begin with
// emptying it.
func (s chains) split(d diff.Delta[state.ChainKey, state.Chain], r *chainResult) map[state.Family][]chainWork {
	all := map[state.Family][]chainWork{}
	add := func(w chainWork) {
		if !s.c.ours(w.key.Name) {
			w.fail(r, errors.New("it is none of ours"))
			return
		}
		all[w.key.Family] = append(all[w.key.Family], w)
	}
	for _, row := range d.Remove {
		add(chainWork{key: row.Key, remove: true})
	}
	for _, c := range d.Update {
		add(chainWork{key: c.Key, value: c.New, expected: true})
	}
	for _, row := range d.Add {
		add(chainWork{key: row.Key, value: row.Value})
	}
	return all
}

// removals empty and delete chains. A chain that a remaining chain goes to is left as it is: the kernel would
// refuse it, and not say why.
func removals(tables snapshot, work []chainWork, r *chainResult) []piece {
	var keys []state.ChainKey
	for _, w := range work {
		if !w.remove {
			continue
		}
		if tables.has(w.key) {
			keys = append(keys, w.key)
		} else {
			r.Drift++
		}
	}
	var pieces []piece
	for _, k := range free(tables, keys, r) {
		pieces = append(pieces, piece{
			table: k.Table,
			first: []string{"-F " + k.Name},
			then:  []string{"-X " + k.Name},
			done: func(err error) {
				if err != nil {
					chainWork{key: k, remove: true}.fail(r, err)
				}
			},
		})
	}
	return pieces
}

// free returns the keys that no remaining chain goes to. A chain that is held back holds back those that it
// goes to.
func free(tables snapshot, keys []state.ChainKey, r *chainResult) []state.ChainKey {
	holders := map[state.RuleTable]map[string][]string{}
	leaving := map[state.ChainKey]bool{}
	for _, k := range keys {
		leaving[k] = true
		if holders[k.Table] == nil {
			holders[k.Table] = tables[k.Table].holders()
		}
	}
	stays := func(k state.ChainKey) func(string) bool {
		return func(holder string) bool { k.Name = holder; return !leaving[k] }
	}
	for again := true; again; {
		again = false
		keys = slices.DeleteFunc(keys, func(k state.ChainKey) bool {
			i := slices.IndexFunc(holders[k.Table][k.Name], stays(k))
			if i >= 0 {
				chainWork{key: k, remove: true}.fail(r, fmt.Errorf("chain %s still goes to it", holders[k.Table][k.Name][i]))
				delete(leaving, k)
				again = true
			}
			return i >= 0
		})
	}
	return keys
}

func writes(tables snapshot, work []chainWork, r *chainResult) []piece {
	var pieces []piece
	for _, w := range work {
		if w.remove {
			continue
		}
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
