// SPDX-License-Identifier: Apache-2.0

package state

import "slices"

// The other tables of iptables, in which we have nothing.
const (
	Raw      RuleTable = "raw"
	Security RuleTable = "security"
)

// Ruleset is all rules that a node's packets meet, ours among those of others. It is only observed.
//
// A table of nftables is one of the table "nftables FAMILY NAME" here, and its rules are in iptables-save's spelling
// as far as they are simple.
type Ruleset struct {
	Chains map[ChainKey]Chain
	Bases  map[ChainKey]Base // nil: nothing was read
}

// Base is what is known of a chain that packets enter from nowhere: one that is built in, or a base chain of
// nftables.
type Base struct {
	Hook     string // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS
	Device   string // of INGRESS; empty: not known, or several
	Priority int    // lower ones come first
	NAT      bool   // only the first packet of a connection enters it
	Drops    bool   // its policy is DROP
}

// BuiltIn is the Base of a chain of iptables, but for its policy.
func BuiltIn(t RuleTable, hook string) Base {
	priority := map[RuleTable]int{Raw: -300, Mangle: -150, NAT: -100, Filter: 0, Security: 50}[t]
	if t == NAT && (hook == "INPUT" || hook == "POSTROUTING") {
		priority = 100
	}
	return Base{Hook: hook, Priority: priority, NAT: t == NAT}
}

// Aside reports whether the next rule is asked after a target of iptables, whose effect is none that a later rule
// looks at.
func Aside(target string) bool {
	return slices.Contains([]string{
		"AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "DSCP", "ECN", "HL", "IDLETIMER", "LED", "LOG", "NFLOG", "RATEEST",
		"SECMARK", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG",
	}, target)
}
