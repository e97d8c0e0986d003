// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
		tables, err := s.c.save(ctx, f)
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

// chainWork is what has to happen in one table.
type chainWork struct {
	remove []state.ChainKey
	write  []chainWrite
}

type chainWrite struct {
	key      state.ChainKey
	value    state.Chain
	expected bool // to be there already
}

// Apply makes the changes of d, with one iptables-save a family and one
// iptables-restore a table for each of removal and writing.
func (s chains) Apply(ctx context.Context, d diff.Delta[state.ChainKey, state.Chain]) chainResult {
	var r chainResult
	work := s.split(d, &r)
	before := seen{}
	for _, p := range slices.SortedFunc(maps.Keys(work), place.compare) {
		s.applyAt(ctx, p, *work[p], before, &r)
	}
	return r
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.family, o.family), cmp.Compare(p.table, o.table))
}

// split sorts the rows by table. Chains that are not ours are refused: writing
// one would begin with emptying it.
func (s chains) split(d diff.Delta[state.ChainKey, state.Chain], r *chainResult) map[place]*chainWork {
	all := map[place]*chainWork{}
	at := func(k state.ChainKey, verb string, use func(*chainWork)) {
		if !s.c.ours(k.Name) {
			r.Fail(k, fmt.Errorf("%s chain %v: it is none of ours", verb, k))
			return
		}
		p := place{k.Family, k.Table}
		if all[p] == nil {
			all[p] = &chainWork{}
		}
		use(all[p])
	}
	for _, row := range d.Remove {
		at(row.Key, "removing", func(w *chainWork) { w.remove = append(w.remove, row.Key) })
	}
	for _, c := range d.Update {
		at(c.Key, "writing", func(w *chainWork) { w.write = append(w.write, chainWrite{c.Key, c.New, true}) })
	}
	for _, row := range d.Add {
		at(row.Key, "writing", func(w *chainWork) { w.write = append(w.write, chainWrite{row.Key, row.Value, false}) })
	}
	return all
}

func (s chains) applyAt(ctx context.Context, p place, w chainWork, before seen, r *chainResult) {
	table, _, err := before.at(ctx, s.c, p)
	if err != nil {
		for _, k := range w.remove {
			r.Fail(k, fmt.Errorf("removing chain %v: %w", k, err))
		}
		for _, row := range w.write {
			r.Fail(row.key, fmt.Errorf("writing chain %v: %w", row.key, err))
		}
		return
	}
	s.remove(ctx, p, table, w.remove, r)
	s.write(ctx, p, table, w.write, r)
}

// remove empties and deletes chains. One that a chain which stays goes to is
// left as it is: the kernel would refuse it, and not say why.
func (s chains) remove(ctx context.Context, p place, table saved, keys []state.ChainKey, r *chainResult) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k state.ChainKey) bool {
		_, there := table.builtIn[k.Name]
		if !there {
			r.Drift++
		}
		return !there
	})
	keys = free(table, keys, r)
	blocks := make([]block, len(keys))
	for i, k := range keys {
		blocks[i] = block{first: []string{"-F " + k.Name}, then: []string{"-X " + k.Name}}
	}
	for i, err := range s.c.commit(ctx, p, blocks) {
		if err != nil {
			r.Fail(keys[i], fmt.Errorf("removing chain %v: %w", keys[i], err))
		}
	}
}

// free are the keys that nothing which stays goes to. A chain that is held back
// holds back those that it goes to.
func free(table saved, keys []state.ChainKey, r *chainResult) []state.ChainKey {
	for again := true; again; {
		again = false
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = k.Name
		}
		keys = slices.DeleteFunc(keys, func(k state.ChainKey) bool {
			holder := table.holder(k.Name, names)
			if holder != "" {
				r.Fail(k, fmt.Errorf("removing chain %v: chain %s still goes to it", k, holder))
				again = true
			}
			return holder != ""
		})
	}
	return keys
}

func (s chains) write(ctx context.Context, p place, table saved, rows []chainWrite, r *chainResult) {
	blocks := make([]block, len(rows))
	for i, row := range rows {
		blocks[i].first = []string{":" + row.key.Name + " - [0:0]"} // makes it, or empties it
		for _, rule := range row.value.Lines() {
			blocks[i].then = append(blocks[i].then, "-A "+row.key.Name+" "+rule)
		}
	}
	for i, err := range s.c.commit(ctx, p, blocks) {
		k := rows[i].key
		if err != nil {
			r.Fail(k, fmt.Errorf("writing chain %v: %w", k, err))
			continue
		}
		if _, there := table.builtIn[k.Name]; there != rows[i].expected {
			r.Drift++
		}
	}
}
