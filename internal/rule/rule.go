// SPDX-License-Identifier: Apache-2.0

// Package rule is what our rules ask of a packet and what they do with it, without the name of a firewall: plan says
// with it what is wanted, and each firewall renders it. Text and Parse are the one spelling in which rules are stored,
// compared and printed, that of iptables-save; NFT spells a rule as nft does.
//
// It knows the rules of this project. Package trace reads those of other programs.
package rule

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Rule is one rule of a chain: a packet that all matches fit gets the verdict. Matches are asked in their order.
type Rule struct {
	Matches []Match
	Verdict Verdict
}

// When returns a rule without a verdict, for Then.
func When(matches ...Match) Rule { return Rule{Matches: matches} }

// Always is a rule for every packet.
func Always() Rule { return Rule{} }

// And returns the rule with more matches.
func (r Rule) And(matches ...Match) Rule {
	r.Matches = slices.Concat(r.Matches, matches)
	return r
}

// Then returns the rule with a verdict.
func (r Rule) Then(v Verdict) Rule {
	r.Verdict = v
	return r
}

// Match is a question about a packet: one of the types below.
type Match interface{ isMatch() }

// Side is one end of a packet's way.
type Side uint8

// The sides.
const (
	Source Side = iota
	Destination
)

type (
	// About is a comment. It fits every packet.
	About string

	// In fits a packet whose address on a side is in a network.
	In struct {
		Side    Side
		Network netip.Prefix
		Not     bool
	}

	// Via fits a packet that came by an interface, or by any whose name begins so.
	Via struct {
		Interface string
		Begins    bool
		Not       bool
	}

	// Proto fits packets of one transport protocol.
	Proto state.Protocol

	// Port fits packets to a port. A Proto comes before it.
	Port uint16

	// Member fits a packet of which some parts together are an entry of a set.
	Member struct {
		Set state.SetName
		Of  Parts
		Not bool
	}

	// Local fits a packet whose address on a side is one of the node's own, those of Services among them.
	Local Side

	// Tracked fits a packet by what conntrack knows of its connection.
	Tracked uint8

	// Marked fits a packet whose mark, under Mask, is Value.
	Marked struct {
		Value, Mask uint32
		Not         bool
	}

	// EchoRequest fits what ping sends.
	EchoRequest struct{}
)

// What conntrack knows of a connection.
const (
	New         Tracked = iota // the packet begins it
	Established                // the packet continues one, or belongs to one
	Translated                 // destination NAT has changed where it goes
)

// Parts are the parts of a packet that a set's entries are made of. Ports come with their protocol, but in a set of
// ports alone.
type Parts uint8

// The parts.
const (
	To         Parts = iota // the address or, in a set of ports, the port that the packet goes to
	ToPort                  // the address, protocol and port that it goes to
	ToPortFrom              // and the address that it comes from
	FromPort                // the address that it comes from, with the protocol and port that it goes to
	From                    // the address that it comes from
)

// Verdict is what becomes of a packet: one of the types below.
type Verdict interface{ isVerdict() }

type (
	// Do is a verdict without more to say.
	Do uint8

	// Jump asks the rules of a chain of ours, in the same table.
	Jump string

	// Mark clears the bits of Mask in the packet's mark, and then flips those of Value.
	Mark struct{ Value, Mask uint32 }

	// Masquerade gives the packet an address of the node as its source, with a random port: one from First to Last, or
	// any if both are 0. A range needs a Proto.
	Masquerade struct{ First, Last uint16 }

	// ShiftPort sends a packet to the inside port of the address that it goes to (state.InsidePort). The set is the
	// one that the rule matches, which a firewall may look up for the port.
	ShiftPort struct{}

	// Redirect sends a packet to another address, with the port that it has.
	Redirect netip.Addr

	// Join sends a packet to the same address in the network of joined virtual servers (state.JoinedAddress).
	Join struct{}
)

// The plain verdicts.
const (
	Accept Do = iota // no more rules of the table
	Return           // no more rules of the chain
	Drop             // without an answer
	Refuse           // with an answer of ICMP: port unreachable
)

func (About) isMatch()       {}
func (In) isMatch()          {}
func (Via) isMatch()         {}
func (Proto) isMatch()       {}
func (Port) isMatch()        {}
func (Member) isMatch()      {}
func (Local) isMatch()       {}
func (Tracked) isMatch()     {}
func (Marked) isMatch()      {}
func (EchoRequest) isMatch() {}

func (Do) isVerdict()         {}
func (Jump) isVerdict()       {}
func (Mark) isVerdict()       {}
func (Masquerade) isVerdict() {}
func (ShiftPort) isVerdict()  {}
func (Redirect) isVerdict()   {}
func (Join) isVerdict()       {}
