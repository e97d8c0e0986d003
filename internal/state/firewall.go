// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"strings"
	"unique"
)

// Firewall is one of the two parts of the kernel that can hold sets, chains and jumps. Rows of both have different
// keys, by the names of their sets and tables: so a node that changes from one to the other has rows of both for a
// moment, and a diff moves it.
type Firewall uint8

// The firewalls.
const (
	OnIPTables Firewall = iota // with ipset; its names are kube-proxy's
	OnNFTables                 // in a table of our own for each family
)

// Firewalls returns both.
func Firewalls() []Firewall { return []Firewall{OnIPTables, OnNFTables} }

// String is the firewall's name in the configuration.
func (w Firewall) String() string {
	if w == OnNFTables {
		return "nftables"
	}
	return "iptables"
}

// ParseFirewall reads what String wrote.
func ParseFirewall(s string) (Firewall, error) {
	for _, w := range Firewalls() {
		if w.String() == s {
			return w, nil
		}
	}
	return 0, fmt.Errorf("firewall %q is neither iptables nor nftables", s)
}

// NFTable is the name of our table of nftables, in the families ip and ip6.
const NFTable = "kube-ipvs"

// What begins the names of sets and tables of nftables among those of iptables.
const (
	nftSet   = "nft:"
	nftTable = "nft-"
)

// On returns the set's name in a firewall.
func (n SetName) On(w Firewall) SetName {
	if n = n.Bare(); w == OnIPTables {
		return n
	}
	return intern(nftSet + n)
}

// Bare returns the name without its firewall: the one that the kernel knows.
func (n SetName) Bare() SetName { return n[len(n.prefix()):] }

// Firewall returns the one that the set is in.
func (n SetName) Firewall() Firewall {
	if n.prefix() != "" {
		return OnNFTables
	}
	return OnIPTables
}

func (n SetName) prefix() string {
	if strings.HasPrefix(string(n), nftSet) {
		return nftSet
	}
	return ""
}

// intern has all entries of a set share its name.
func intern(n SetName) SetName { return unique.Make(n).Value() }

// On returns the table in a firewall. In nftables it is a part of our own table: the chains with its place in a hook.
func (t RuleTable) On(w Firewall) RuleTable {
	if t = t.Bare(); w == OnIPTables {
		return t
	}
	return nftTable + t
}

// Bare returns the table without its firewall.
func (t RuleTable) Bare() RuleTable {
	if rest, on := strings.CutPrefix(string(t), nftTable); on {
		return RuleTable(rest)
	}
	return t
}

// Firewall returns the one that the table is in.
func (t RuleTable) Firewall() Firewall {
	if t.Bare() != t {
		return OnNFTables
	}
	return OnIPTables
}

// NFTChain is the name of a chain of the table in our table of nftables, which has the chains of all tables.
func (t RuleTable) NFTChain(name string) string { return string(t.Bare()) + "-" + name }

// nftBase is the Base of a base chain of ours in nftables, by the table of iptables that its rules would be in.
//
// Priorities are those of kube-proxy's nftables mode. Where packets enter, the rules of nat come one before those of all
// other programs, with which they compete: the first that translates a connection translates it alone. What comes
// before that is in mangle. IPVS takes packets at 99 in INPUT, and at -98 in OUTPUT.
func nftBase(t RuleTable, hook string) Base {
	b := Base{Hook: hook, NAT: t == NAT}
	switch {
	case t == NAT && (hook == "INPUT" || hook == "POSTROUTING"):
		b.Priority = 99
	case t == NAT:
		b.Priority = -101
	case t == Mangle:
		b.Priority = -110
	}
	return b
}
