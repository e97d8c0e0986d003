// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type jumps struct{ c *Conn }

type jumpResult = kernel.Result[state.JumpKey]

// List returns the jumps from built-in chains to ours.
func (s jumps) List(ctx context.Context) (map[state.JumpKey]state.Jump, error) {
	rows := map[state.JumpKey]state.Jump{}
	err := s.c.each(ctx, "jumps", func(f state.Family, name state.RuleTable, table saved) {
		for from, builtIn := range table.builtIn {
			if builtIn && slices.Contains(ruleTables(), name) {
				s.collect(state.JumpKey{Family: f, Table: name, From: from}, table, rows)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// collect adds the rows of one built-in chain, which k names.
func (s jumps) collect(k state.JumpKey, table saved, rows map[state.JumpKey]state.Jump) {
	for _, rule := range table.rules[k.From] {
		k.To = target(rule)
		if k.To == "" || !s.c.ours(k.To) {
			continue
		}
		rules := table.jumps(k.From, k.To)
		slices.Sort(rules)
		row := state.Jump{Rule: strings.Join(slices.Compact(rules), "\n")}
		if k.ComesFirst() {
			row.Behind = table.behind(k.From, k.To, s.c.ours)
		}
		rows[k] = row
	}
}

func (c *Conn) jumpPieces(tables snapshot, work []jumpWork, r *jumpResult) []piece {
	var pieces []piece
	for _, w := range work {
		table, exists := tables[w.key.Table]
		have := table.jumps(w.key.From, w.key.To)
		first := w.key.ComesFirst() && w.value.Behind == "" // else it is left behind a rule on purpose
		displaced := first && table.behind(w.key.From, w.key.To, c.ours) != ""
		lines, unfit := linesOf(w, have, displaced, table.place(w.key))
		if bad := cmp.Or(c.check(w, table, exists), unfit); bad != nil {
			w.fail(r, bad)
			continue
		}
		if (len(have) > 0) != w.expected {
			r.Drift++
		}
		if len(lines) > 0 {
			pieces = append(pieces, piece{table: w.key.Table, then: lines, done: func(err error) {
				if err != nil {
					w.fail(r, err)
				}
			}})
		}
	}
	return pieces
}

// check refuses what is not a jump from a built-in chain to one of ours: it would not be listed.
func (c *Conn) check(w jumpWork, table saved, exists bool) error {
	switch {
	case !c.ours(w.key.To):
		return errors.New("it goes to a chain that is none of ours")
	case exists && !table.builtIn[w.key.From]:
		return errors.New("it begins in a chain that is not built in")
	case !w.remove && (target(w.value.Rule) != w.key.To || strings.Contains(w.value.Rule, "\n")):
		return fmt.Errorf("its rule %q does not go there", w.value.Rule)
	}
	return nil
}

// linesOf turns the rules that are there into the desired one, at place, all at once: packets always meet one. A
// displaced one is deleted before it is inserted, since a deletion takes the first of several that are the same.
func linesOf(w jumpWork, have []string, displaced bool, place int) ([]string, error) {
	var lines []string
	there := w.remove
	for _, rule := range have {
		if rule == w.value.Rule && !there && !displaced {
			there = true
			continue
		}
		if strings.Contains(rule, "\n") { // in a comment: iptables-restore can't read what iptables-save wrote
			return nil, fmt.Errorf("the rule %q that is there can't be deleted because of its line break", rule)
		}
		lines = append(lines, "-D "+w.key.From+" "+rule)
	}
	if !there {
		lines = append(lines, fmt.Sprintf("-I %s %d %s", w.key.From, place, w.value.Rule))
	}
	return lines, nil
}
