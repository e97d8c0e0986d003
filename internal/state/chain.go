// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"fmt"
	"slices"
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

// NFTables is where a table of nftables stands among the chains: a whole table, as one row with its name and no rules.
// We make none; a proxy before us may have left one.
const NFTables RuleTable = "nftables"

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

// ParseChainKey reads what String wrote.
func ParseChainKey(s string) (ChainKey, error) {
	parts := strings.Split(s, " ")
	if len(parts) != 3 || parts[2] == "" {
		return ChainKey{}, fmt.Errorf("chain %q is not family, table and name", s)
	}
	f, t, err := parseFamilyTable(parts[0], parts[1])
	if err != nil {
		return ChainKey{}, fmt.Errorf("chain %q: %w", s, err)
	}
	return ChainKey{Family: f, Table: t, Name: parts[2]}, nil
}

func parseFamilyTable(family, table string) (Family, RuleTable, error) {
	f, err := ParseFamily(family)
	if err != nil {
		return 0, "", err
	}
	switch t := RuleTable(table); t.Bare() {
	case NAT, Filter, Mangle, NFTables:
		return f, t, nil
	}
	return 0, "", fmt.Errorf("table %q is none of nat, filter, mangle, nftables", table)
}

// Chain is the whole content of a chain of ours. Order matters inside a chain, so the chain and not the rule is the
// unit of a difference.
type Chain struct {
	// Rules are what follows "-A NAME " in iptables-save's spelling, one a line, without a final newline. Empty: no
	// rules.
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

// Words cuts a rule into words. In quotes, and only there, a backslash escapes the next byte.
func Words(text string) []string {
	var words []string
	var word strings.Builder
	inWord, quoted := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted, inWord = !quoted, true
		case c == '\\' && quoted && i+1 < len(text):
			i++
			word.WriteByte(text[i])
		case c == ' ' && !quoted:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// JumpKey identifies a jump from a built-in chain, which is shared with others, to a chain of our own.
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

// ParseJumpKey reads what String wrote.
func ParseJumpKey(s string) (JumpKey, error) {
	parts := strings.Split(s, " ")
	if len(parts) != 5 || parts[3] != "->" || parts[2] == "" || parts[4] == "" {
		return JumpKey{}, fmt.Errorf("jump %q is not family, table, chain -> chain", s)
	}
	f, t, err := parseFamilyTable(parts[0], parts[1])
	if err != nil {
		return JumpKey{}, fmt.Errorf("jump %q: %w", s, err)
	}
	return JumpKey{Family: f, Table: t, From: parts[2], To: parts[4]}, nil
}

// ComesFirst reports whether the jump has to come before all rules of others that decide something: in nat and mangle,
// where a packet to a Service enters. The first rule that decides there decides alone.
func (k JumpKey) ComesFirst() bool {
	return k.Table.Firewall() == OnIPTables && (k.Table == NAT || k.Table == Mangle) && (k.From == "PREROUTING" || k.From == "OUTPUT")
}

// Jump is the rule that jumps.
type Jump struct {
	// Rule is what follows "-A FROM " in iptables-save's spelling.
	Rule string

	// Behind is, of a jump that has to come first and does not, the first rule of others before it that decides
	// something, in the same spelling. It is only observed: it is never desired.
	Behind string
}

// The other tables of iptables, in which we have nothing.
const (
	Raw      RuleTable = "raw"
	Security RuleTable = "security"
)

// Ruleset is all rules that a node's packets meet, ours among those of others, but for those of our table of nftables:
// these are the rows of a State. It is only observed.
//
// A table of nftables is one of the table "nftables FAMILY NAME" here, and its rules are in iptables-save's spelling as
// far as they are simple.
type Ruleset struct {
	Chains map[ChainKey]Chain
	Bases  map[ChainKey]Base // nil: nothing was read
}

// Base is what is known of a chain that packets enter from nowhere: one that is built in, or a base chain of nftables.
type Base struct {
	Hook     string // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS
	Device   string // of INGRESS; empty: not known, or several
	Priority int    // lower ones come first
	NAT      bool   // only the first packet of a connection enters it
	Drops    bool   // its policy is DROP
}

// BuiltIn is the Base of a chain of iptables, or of a base chain of ours in nftables, but for its policy.
func BuiltIn(t RuleTable, hook string) Base {
	if t.Firewall() == OnNFTables {
		return nftBase(t.Bare(), hook)
	}
	priority := map[RuleTable]int{Raw: -300, Mangle: -150, NAT: -100, Filter: 0, Security: 50}[t]
	if t == NAT && (hook == "INPUT" || hook == "POSTROUTING") {
		priority = 100
	}
	return Base{Hook: hook, Priority: priority, NAT: t == NAT}
}

// Aside reports whether the next rule is asked after a target of iptables, whose effect is none that a later rule looks
// at.
func Aside(target string) bool {
	return slices.Contains([]string{
		"AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "DSCP", "ECN", "HL", "IDLETIMER", "LED", "LOG", "NFLOG", "RATEEST",
		"SECMARK", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG",
	}, target)
}
