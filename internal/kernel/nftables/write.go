// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"maps"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// requests appends what brings chains and jumps to what they should be: first all chains are made and emptied, then
// filled, then those that go are deleted, when nothing goes to them any more.
func (w rewriting) requests(l layout) error {
	bases := w.bases(l.jumps)
	w.makeTables(l)
	for _, k := range l.chains {
		w.emptied(k.Key.Family, chainName(k.Key.Table, k.Key.Name), nil, k.Remove)
	}
	for _, b := range bases {
		w.emptied(b.family, b.name, &b.hook, len(b.lines) == 0)
	}
	for _, k := range l.chains {
		if !k.Remove {
			if err := w.fill(k.Key.Family, chainName(k.Key.Table, k.Key.Name), k.Value.Lines()); err != nil {
				return err
			}
		}
	}
	for _, b := range bases {
		if err := w.fill(b.family, b.name, b.lines); err != nil {
			return err
		}
		if len(b.lines) == 0 && w.have.chains[chainID{b.family, b.name}] != nil {
			w.c.deleteChain(b.family, b.name)
		}
	}
	for _, k := range l.chains {
		if k.Remove {
			w.c.deleteChain(k.Key.Family, chainName(k.Key.Table, k.Key.Name))
		}
	}
	return nil
}

// base is a base chain with the jumps that it should have.
type base struct {
	family state.Family
	name   string
	hook   hook
	lines  []string
}

// bases returns the base chains whose jumps change. Each is written whole.
func (w rewriting) bases(work []jumpWork) []base {
	jumps := map[chainID]map[state.JumpKey]string{}
	hooks := map[chainID]hook{}
	for _, k := range work {
		id := chainID{k.Key.Family, chainName(k.Key.Table, k.Key.From)}
		if jumps[id] == nil {
			jumps[id] = map[state.JumpKey]string{}
			hooks[id], _ = hookOf(k.Key.Table, k.Key.From)
			for k, line := range w.jumps(k.Key) {
				jumps[id][k], _, _ = strings.Cut(line, "\n")
			}
		}
		if k.Remove {
			delete(jumps[id], k.Key)
		} else {
			jumps[id][k.Key] = k.Value.Rule
		}
	}
	var list []base
	for id, rows := range jumps {
		b := base{family: id.family, name: id.name, hook: hooks[id]}
		for _, k := range slices.SortedFunc(maps.Keys(rows), state.JumpKey.Compare) {
			b.lines = append(b.lines, rows[k])
		}
		list = append(list, b)
	}
	return list
}

func (w rewriting) makeTables(l layout) {
	needs := map[state.Family]bool{}
	for _, k := range l.chains {
		needs[k.Key.Family] = needs[k.Key.Family] || !k.Remove
	}
	for _, k := range l.jumps {
		needs[k.Key.Family] = needs[k.Key.Family] || !k.Remove
	}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		if needs[f] {
			w.c.makeTable(f)
		}
	}
}

// emptied takes the rules out of a chain that is there and, unless it leaves, makes one that is missing. One that is no base
// chain and should be, or the other way round, or has another hook, is made anew.
func (w rewriting) emptied(f state.Family, name string, h *hook, leaves bool) {
	have := w.have.chains[chainID{f, name}]
	if have != nil {
		w.c.emptyChain(f, name)
	}
	if leaves {
		return
	}
	if have != nil && (have.base != (h != nil) || have.base && have.hook != *h) {
		w.c.deleteChain(f, name)
	}
	w.c.makeChain(f, name, h)
}

func (w rewriting) fill(f state.Family, name string, lines []string) error {
	x := encoderOf(chainID{f, name}, w.headers)
	for _, line := range lines {
		r, err := rule.Parse(f, line)
		if err == nil {
			err = w.c.appendRule(x, name, line, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
