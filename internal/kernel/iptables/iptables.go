// SPDX-License-Identifier: Apache-2.0

// Package iptables is our chains of iptables and ip6tables and the jumps to them, through the tools iptables-save and
// iptables-restore.
//
// What changes of a family is written by one iptables-restore, which is atomic for the packets of a table and leaves
// other chains alone. Running a tool costs far more than its input, so a family is read once for chains and jumps (in a
// kernel.Round), and written once for both. Rules are compared as text, so desired ones must have iptables-save's
// spelling (canonical_test.go). Reading makes no table; writing makes what it needs.
//
// A row of the table of jumps is all rules that go from one built-in chain to one chain of ours. There should be one,
// on top when it is made. Where it has to come first (state.JumpKey.ComesFirst), the row says which rule of another
// program comes before it and decides something, and an update brings it back. Identical copies count as one. Rules
// that differ are lines of one row, which equals no desired one.
package iptables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn runs the tools in the calling thread's network namespace. One goroutine uses it and its stores at a time.
type Conn struct {
	ours     func(chain string) bool
	families []state.Family
	tools    map[state.Family]tools
	forks    int
	beside   string
	onNFT    bool // the tools work with nftables

	round *kernel.Round // in which seen was read
	seen  map[state.Family]snapshot
}

// Open finds the tools of the families, of the variant that the machine uses if it has both iptables-nft and
// iptables-legacy. ours reports which chains are ours, by name: no other chain is listed or changed.
func Open(ctx context.Context, ours func(chain string) bool, families ...state.Family) (*Conn, error) {
	c := &Conn{ours: ours, families: families, tools: map[state.Family]tools{}, seen: map[state.Family]snapshot{}}
	v := c.variantInUse(ctx)
	for _, f := range families {
		if err := c.open(ctx, f, v); err != nil {
			return nil, fmt.Errorf("opening iptables for %v: %w", f, err)
		}
	}
	return c, nil
}

// Another returns a Conn for another goroutine, with the same tools.
func (c *Conn) Another() *Conn {
	return &Conn{ours: c.ours, families: c.families, tools: c.tools, beside: c.beside, onNFT: c.onNFT, seen: map[state.Family]snapshot{}}
}

// Chains returns the table of our chains in nat, filter and mangle.
func (c *Conn) Chains() kernel.Store[state.ChainKey, state.Chain] { return chains{c} }

// Jumps returns the table of the jumps from built-in chains of nat, filter and mangle to chains of ours.
func (c *Conn) Jumps() kernel.Store[state.JumpKey, state.Jump] { return jumps{c} }

// Beside names the tools of the other variant if they show chains of a service proxy as well: rules of both are at work
// then, and those are out of reach. It is empty if there are none.
func (c *Conn) Beside() string { return c.beside }

// Forks returns how many times a tool has been run.
func (c *Conn) Forks() int { return c.forks }

func ruleTables() []state.RuleTable {
	return []state.RuleTable{state.NAT, state.Filter, state.Mangle}
}

// each calls take with all tables of all families.
func (c *Conn) each(ctx context.Context, what string, take func(state.Family, state.RuleTable, saved)) error {
	for _, f := range c.families {
		tables, err := c.look(ctx, f)
		if err != nil {
			return fmt.Errorf("listing %s of %v: %w", what, f, err)
		}
		for name, table := range tables {
			take(f, name, table)
		}
	}
	return nil
}

// look reads the tables of a family, unless this round has done so and nothing has been written since.
func (c *Conn) look(ctx context.Context, f state.Family) (snapshot, error) {
	round := kernel.RoundOf(ctx)
	if round != c.round {
		clear(c.seen)
		c.round = round
	}
	if tables, ok := c.seen[f]; ok {
		return tables, nil
	}
	tables, err := c.save(ctx, f)
	if err == nil && round != nil {
		c.seen[f] = tables
	}
	return tables, err
}

// lastLook is a look before a change, which makes it out of date.
func (c *Conn) lastLook(ctx context.Context, f state.Family) (snapshot, error) {
	tables, err := c.look(ctx, f)
	delete(c.seen, f)
	return tables, err
}

// Shows reports whether the tools show a table of nftables as one of theirs, as iptables-nft does.
func (c *Conn) Shows(f state.Family, table string) bool {
	return c.onNFT && slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, table) && slices.Contains(c.families, f)
}

// Ruleset returns all rules of the families, ours or not.
func (c *Conn) Ruleset(ctx context.Context) (state.Ruleset, error) {
	all := state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
	err := c.each(ctx, "all rules", func(f state.Family, name state.RuleTable, table saved) {
		for chain, builtIn := range table.builtIn {
			k := state.ChainKey{Family: f, Table: name, Name: chain}
			all.Chains[k] = state.ChainOf(table.rules[chain]...)
			if builtIn {
				b := state.BuiltIn(name, chain)
				b.Drops = table.drops[chain]
				all.Bases[k] = b
			}
		}
	})
	if err != nil {
		return state.Ruleset{}, err
	}
	return all, nil
}

// onNFTables reports whether what a tool printed comes from nftables. The tool names itself above each table.
func onNFTables(saved string) bool {
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, "# Generated by ") {
			return strings.Contains(line, "-nft-save") || strings.Contains(line, "(nf_tables)")
		}
	}
	return false
}
