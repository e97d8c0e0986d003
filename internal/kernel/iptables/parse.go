// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// saved is one table as iptables-save prints it.
type saved struct {
	builtIn map[string]bool     // every chain; true if it is built in
	drops   map[string]bool     // built-in chains with the policy DROP
	rules   map[string][]string // of a chain: what follows "-A NAME "
}

type snapshot map[state.RuleTable]saved

func (s snapshot) has(k state.ChainKey) bool {
	_, there := s[k.Table].builtIn[k.Name]
	return there
}

// parse reads the output of iptables-save. It fails on an unknown line: a skipped rule would look like a missing one.
func parse(text string) (snapshot, error) {
	p := parser{tables: snapshot{}}
	for number := 1; text != ""; {
		line, rest := cutLine(text)
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d %q: %w", number, line, err)
		}
		number += strings.Count(line, "\n") + 1
		text = rest
	}
	if p.open {
		return nil, errors.New("the output ends before COMMIT")
	}
	return p.tables, nil
}

// cutLine cuts off the first line. A newline in a quoted comment does not end it.
func cutLine(text string) (line, rest string) {
	quoted := false
	if strings.HasPrefix(text, "#") {
		line, rest, _ = strings.Cut(text, "\n")
		return line, rest
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case '\n':
			if !quoted {
				return text[:i], text[i+1:]
			}
		}
	}
	return text, ""
}

type parser struct {
	tables snapshot
	table  saved
	open   bool // between *table and COMMIT
}

func (p *parser) line(line string) error {
	switch {
	case line == "" || line[0] == '#':
		return nil
	case line[0] == '*':
		return p.begin(state.RuleTable(line[1:]))
	case !p.open:
		return errors.New("outside of a table")
	case line == "COMMIT":
		p.open = false
		return nil
	case line[0] == ':':
		return p.chain(line[1:])
	case strings.HasPrefix(line, "-A "):
		return p.rule(line[len("-A "):])
	}
	return errors.New("unknown kind of line")
}

func (p *parser) begin(name state.RuleTable) error {
	if _, twice := p.tables[name]; twice || p.open {
		return errors.New("table begins twice or inside another one")
	}
	p.table = saved{builtIn: map[string]bool{}, drops: map[string]bool{}, rules: map[string][]string{}}
	p.tables[name], p.open = p.table, true
	return nil
}

// chain reads "NAME POLICY [packets:bytes]". A chain that is not built in has no policy.
func (p *parser) chain(line string) error {
	words := strings.Split(line, " ")
	if len(words) != 3 || slices.Contains(words, "") {
		return errors.New("not a chain, its policy and its counters")
	}
	if _, twice := p.table.builtIn[words[0]]; twice {
		return errors.New("chain is declared twice")
	}
	p.table.builtIn[words[0]] = words[1] != "-"
	if words[1] == "DROP" {
		p.table.drops[words[0]] = true
	}
	return nil
}

func (p *parser) rule(line string) error {
	chain, rule, _ := strings.Cut(line, " ")
	if _, known := p.table.builtIn[chain]; !known {
		return errors.New("rule of a chain that is not declared")
	}
	p.table.rules[chain] = append(p.table.rules[chain], rule)
	return nil
}

// target returns the chain that a rule jumps or goes to: its last word. It is empty if the rule ends in something else,
// as a rule to a chain never does.
func target(rule string) string {
	before, name, ok := cutLast(rule)
	_, option, _ := cutLast(before)
	if !ok || option != "-j" && option != "-g" || strings.ContainsAny(name, `"`) {
		return ""
	}
	return name
}

func cutLast(s string) (before, word string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

func (t saved) jumps(from, to string) []string {
	var rules []string
	for _, rule := range t.rules[from] {
		if target(rule) == to {
			rules = append(rules, rule)
		}
	}
	return rules
}

// holders returns, for each chain that others go to, these others.
func (t saved) holders() map[string][]string {
	by := map[string][]string{}
	for chain, rules := range t.rules {
		for _, rule := range rules {
			to := target(rule)
			if known := by[to]; to != "" && (len(known) == 0 || known[len(known)-1] != chain) {
				by[to] = append(known, chain)
			}
		}
	}
	return by
}
