// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NFT returns the rule as nft lists it in our table of family f, for a chain that stands in table t among our rows.
// Chains have the names that NFTChain gives them, and a comment comes last, if there is room for it.
//
// nft shows a match of a map as "map @KUBE-INSIDE != 0x0 [invalid type]". Here it is "!= 0". nft reads neither.
func (r Rule) NFT(f state.Family, t state.RuleTable) string {
	n := nft{rule: r, family: f, leads: r.leads()}
	var words []string
	for i, m := range r.Matches {
		switch m := m.(type) {
		case About:
		case Proto:
			if !n.asksPorts() { // else the protocol is said with them
				words = append(words, "meta l4proto "+state.Protocol(m).Lower())
			}
		default:
			if i != n.leads {
				words = append(words, n.match(m))
			}
		}
	}
	if r.Verdict != nil {
		words = append(words, n.verdict(r.Verdict, t))
	}
	if about := r.Comment(r.Text(f)); about != "" {
		words = append(words, fmt.Sprintf(`comment "%s"`, about)) // nft escapes nothing
	}
	return strings.Join(words, " ")
}

// The kernel keeps some bytes beside a rule of nftables. There a rule of ours has its text and its comment, as pieces
// with a kind, a length and a final NUL.
const (
	userData = 256
	ofPiece  = 3
)

// Comment returns the comment that the rule has beside its text in nftables; empty: none, or there is no room for it.
func (r Rule) Comment(text string) string {
	for _, m := range r.Matches {
		if about, is := m.(About); is && len(text)+len(about)+2*ofPiece <= userData {
			return string(about)
		}
	}
	return ""
}

// leads is the index of the match that the verdict includes: a look-up in a map, which ends the rule if it finds
// nothing. -1: there is none.
func (r Rule) leads() int {
	switch r.Verdict.(type) {
	case ShiftPort, Join:
		return slices.IndexFunc(r.Matches, func(m Match) bool {
			member, is := m.(Member)
			return is && member.Set.Maps()
		})
	}
	return -1
}

// NFTChain is the name of a chain in our table of nftables, which has the chains of all tables of iptables.
func NFTChain(t state.RuleTable, name string) string { return t.NFTChain(name) }

// nft spells the parts of one rule.
type nft struct {
	rule   Rule
	family state.Family
	leads  int
}

func (n nft) match(m Match) string {
	switch m := m.(type) {
	case In:
		return n.address(m.Side) + unequal(m.Not, " != ", " ") + hostOrNetwork(m.Network.Masked())
	case Via:
		return fmt.Sprintf(`iifname%s"%s"`, unequal(m.Not, " != ", " "), m.pattern("*"))
	case Port:
		return fmt.Sprintf("%s %d", n.port(), uint16(m))
	case Member:
		if m.Set.Maps() {
			return n.lookup(m) + unequal(m.Not, " == 0", " != 0")
		}
		return n.key(m) + unequal(m.Not, " != @", " @") + string(m.Set.Bare())
	case Local:
		return "fib " + Side(m).word("saddr", "daddr") + " type local"
	case Tracked:
		return "ct " + []string{New: "state new", Established: "state established,related", Translated: "status dnat"}[m]
	case Marked:
		return m.nft()
	case EchoRequest:
		if n.family == state.IPv6 {
			return "icmpv6 type echo-request"
		}
		return "icmp type echo-request"
	}
	return fmt.Sprintf("%T", m) // there is no other type
}

func (n nft) verdict(v Verdict, t state.RuleTable) string {
	switch v := v.(type) {
	case Do:
		if v == Accept && t.Bare() == state.NAT {
			return "dnat to " + n.address(Destination) // the connection keeps it: no other program translates it
		}
		return []string{Accept: "accept", Return: "return", Drop: "drop", Refuse: "reject"}[v]
	case Jump:
		return "jump " + NFTChain(t, string(v))
	case Mark:
		return "meta mark set meta mark" + v.operations()
	case Masquerade:
		if v == (Masquerade{}) {
			return "masquerade fully-random"
		}
		return "masquerade to :" + v.ports() + " fully-random"
	case ShiftPort:
		return "dnat to :" + n.lookup(n.leading())
	case Redirect:
		return "dnat to " + netip.Addr(v).String()
	case Join:
		return "dnat to " + n.lookup(n.leading())
	}
	return fmt.Sprintf("%T", v) // there is no other type
}

// address is the field of the IP header.
func (n nft) address(s Side) string {
	if n.family == state.IPv6 {
		return "ip6 " + s.word("saddr", "daddr")
	}
	return "ip " + s.word("saddr", "daddr")
}

// port is the field of the transport header, by the protocol if the rule says it.
func (n nft) port() string {
	if p := n.rule.protocol(); p != 0 {
		return p.Lower() + " dport"
	}
	return "th dport"
}

// key is what a set is asked for.
func (n nft) key(m Member) string {
	withPort := func(s Side) string { return n.address(s) + " . meta l4proto . " + n.port() }
	switch m.Of {
	case ToPort:
		return withPort(Destination)
	case ToPortFrom:
		return withPort(Destination) + " . " + n.address(Source)
	case FromPort:
		return withPort(Source)
	case From:
		return n.address(Source)
	}
	if m.Set.PortsAlone() {
		return n.port()
	}
	return n.address(Destination)
}

// lookup is the value that a map has for a packet.
func (n nft) lookup(m Member) string { return n.key(m) + " map @" + string(m.Set.Bare()) }

// leading is the match that leads.
func (n nft) leading() (m Member) {
	if n.leads >= 0 {
		m, _ = n.rule.Matches[n.leads].(Member)
	}
	return m
}

// asksPorts reports whether a match of the rule looks at ports. Those of the verdict do not count.
func (n nft) asksPorts() bool {
	for i, m := range n.rule.Matches {
		if i == n.leads {
			continue
		}
		switch m := m.(type) {
		case Port:
			return true
		case Member:
			if m.Of != From && (m.Of != To || m.Set.PortsAlone()) {
				return true
			}
		}
	}
	return false
}

// nft takes a mask of the first bits for the length of a network.
func (m Marked) nft() string {
	length := bits.LeadingZeros32(^m.Mask)
	switch plain := fmt.Sprintf("meta mark%s0x%08x", unequal(m.Not, " != ", " "), m.Value); {
	case length == 32:
		return plain
	case length > 0 && m.Mask<<length == 0:
		return fmt.Sprintf("%s/%d", plain, length)
	}
	return fmt.Sprintf("meta mark & 0x%08x%s0x%08x", m.Mask, unequal(m.Not, " != ", " == "), m.Value)
}

// operations are those that nft finds in what the kernel does, which is to clear bits and then to flip some: a bit that
// is cleared and flipped is set.
func (v Mark) operations() string {
	set, flipped := v.Value&v.Mask, v.Value&^v.Mask
	var words string
	if kept := ^v.Mask | set; kept != ^uint32(0) {
		words += fmt.Sprintf(" & 0x%08x", kept)
	}
	if flipped != 0 {
		words += fmt.Sprintf(" ^ 0x%08x", flipped)
	}
	if set != 0 {
		words += fmt.Sprintf(" | 0x%08x", set)
	}
	return words
}

func unequal(not bool, yes, no string) string {
	if not {
		return yes
	}
	return no
}

// hostOrNetwork leaves out the length of a network of one address.
func hostOrNetwork(n netip.Prefix) string {
	if n.IsSingleIP() {
		return n.Addr().String()
	}
	return n.String()
}
