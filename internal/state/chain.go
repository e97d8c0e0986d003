// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"strings"
)

// RuleTable is an iptables table.
type RuleTable string

// The iptables tables that Services need.
const (
	NAT    RuleTable = "nat"
	Filter RuleTable = "filter"
	Mangle RuleTable = "mangle"
)

// ChainKey identifies a chain of our own.
type ChainKey struct {
	Family Family
	Table  RuleTable
	Name   string
}

// Compare orders by family, table, name.
func (k ChainKey) Compare(o ChainKey) int {
	return cmp.Or(cmp.Compare(k.Family, o.Family), cmp.Compare(k.Table, o.Table), cmp.Compare(k.Name, o.Name))
}

// String is "IPv4 nat KUBE-SERVICES".
func (k ChainKey) String() string {
	return k.Family.String() + " " + string(k.Table) + " " + k.Name
}

// Chain is the whole content of a chain of ours. Order matters inside a chain,
// so the chain and not the rule is the unit of a difference.
type Chain struct {
	// Rules are what follows "-A NAME " in iptables-save's spelling, one a
	// line, without a final newline. Empty: no rules.
	Rules string
}

// ChainOf joins rules to a Chain.
func ChainOf(rules ...string) Chain { return Chain{Rules: strings.Join(rules, "\n")} }

// Lines are the rules one by one.
func (c Chain) Lines() []string {
	if c.Rules == "" {
		return nil
	}
	return strings.Split(c.Rules, "\n")
}

// JumpKey identifies a jump from a built-in chain, which is shared with
// others, to a chain of our own.
type JumpKey struct {
	Family Family
	Table  RuleTable
	From   string
	To     string
}

// Compare orders by family, table, built-in chain, target.
func (k JumpKey) Compare(o JumpKey) int {
	return cmp.Or(cmp.Compare(k.Family, o.Family), cmp.Compare(k.Table, o.Table),
		cmp.Compare(k.From, o.From), cmp.Compare(k.To, o.To))
}

// String is "IPv4 nat PREROUTING -> KUBE-SERVICES".
func (k JumpKey) String() string {
	return k.Family.String() + " " + string(k.Table) + " " + k.From + " -> " + k.To
}

// Jump is the rule that jumps.
type Jump struct {
	// Rule is what follows "-A FROM " in iptables-save's spelling.
	Rule string
}
