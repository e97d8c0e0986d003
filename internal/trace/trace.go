// SPDX-License-Identifier: Apache-2.0

// Package trace computes what becomes of one packet in a State, and why.
//
// It does what the kernel does with the first packet of a connection, or with a ping: it goes through the chains in the
// order of the kernel's hooks, evaluates their rules, asks IPVS' tables, and follows the packet until it leaves the
// node. It knows no Service and no plan, so it can check both: only the rows decide.
//
// It understands what kube-ipvs and kube-proxy write, and simple rules of others. A rule that it does not understand
// counts as not matching; if that matters, the verdict has a doubt about it. It knows nothing of routes, of conntrack's
// entries and of listening programs, and of others' rules and policies only what Where.Rules has.
//
// The package is pure.
package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ping is the protocol of a Packet that is an ICMP echo request, of either family.
const Ping state.Protocol = 1

// Packet is a client's first packet.
type Packet struct {
	Protocol    state.Protocol // TCP, UDP, SCTP or Ping
	Source      netip.AddrPort // the client; port 0: any; of the node's own packet without an address the kernel picks one
	Destination netip.AddrPort // port 0 for Ping
}

// String returns "203.0.113.9 -> 10.96.0.1:80/TCP", or with " ping" at its end.
func (p Packet) String() string {
	from, to := p.Source.String(), p.Destination.String()+"/"+p.Protocol.String()
	switch {
	case !p.Source.Addr().IsValid():
		from = "?"
	case p.Source.Port() == 0:
		from = p.Source.Addr().String()
	}
	if p.Protocol == Ping {
		to = p.Destination.Addr().String() + " ping"
	}
	return from + " -> " + to
}

// Check returns why p cannot be traced.
func (p Packet) Check() error {
	from, to := p.Source.Addr(), p.Destination.Addr()
	switch {
	case !to.IsValid():
		return fmt.Errorf("packet has no destination")
	case from.IsValid() && state.FamilyOf(from.Unmap()) != state.FamilyOf(to.Unmap()):
		return fmt.Errorf("client %v and destination %v are not of one IP family", from, to)
	case p.Protocol == Ping && p.Destination.Port() != 0:
		return fmt.Errorf("a ping has no port, but %d was given", p.Destination.Port())
	case p.Protocol != Ping && p.Destination.Port() == 0:
		return fmt.Errorf("destination %v has no port", to)
	}
	return nil
}

// Where is what counts besides the packet and the rows.
type Where struct {
	Node      bool          // the node itself sends the packet
	Interface string        // by which another's packet comes; empty: not known
	Addresses []netip.Addr  // the node's own, without those on state.DummyLink; loopback need not be there
	Rules     state.Ruleset // of the whole node; without them only those in the State count
}

// Fate is what becomes of a packet.
type Fate uint8

// The fates.
const (
	Served    Fate = iota + 1 // IPVS sends it to one of the endpoints
	Refused                   // the client gets an error
	Dropped                   // the client gets no answer
	Host                      // no Service's: it is for the node itself
	Forwarded                 // no Service's: it goes on to its destination
)

// String is one word.
func (f Fate) String() string {
	names := [...]string{Served: "served", Refused: "refused", Dropped: "dropped", Host: "host", Forwarded: "forwarded"}
	if f == 0 || int(f) >= len(names) {
		return fmt.Sprintf("fate%d", uint8(f))
	}
	return names[f]
}

// Verdict is what becomes of a packet, and why.
type Verdict struct {
	Packet  Packet // with the source that it has
	Node    bool   // the node itself sent it
	Fate    Fate
	By      string // what decided: a rule, "filter KUBE-IPVS-FILTER 6", "IPVS" or "routing"
	Service string // "namespace/name:port", by the comments of set entries; empty: none, or no comments

	Server      state.VirtualServerKey // which one took the packet; zero: none
	Endpoints   []Endpoint             // that Server may choose; sorted
	Sent        netip.AddrPort         // where a rule of others sends the packet instead; zero: none does
	Resting     int                    // real servers of Server that take no new connections
	Masqueraded bool                   // all receivers see an address of this node as the source

	Steps  []Step
	Doubts []string // what is unknown and may change the verdict
}

// Endpoint is one that may get the packet.
type Endpoint struct {
	Address     netip.AddrPort
	Weight      uint32
	Method      state.ForwardMethod
	Masqueraded bool // it sees an address of this node as the client's
	Fate        Fate // Served, or Dropped or Refused on the way to it
}

// Step is something that happened to the packet on its path.
type Step struct {
	At   string // "nat KUBE-SERVICES 2", with the number of the rule; "nft nat-KUBE-SERVICES 2"; "IPVS", "routing"
	Text string
	Rule string           // as iptables-save writes it; empty if it was none
	Only []netip.AddrPort // the endpoints whose paths have it; empty: all
}

// Of traces p through s.
func Of(s state.State, p Packet, where Where) Verdict {
	w := newWalk(s, p, where)
	if where.Node {
		w.send()
	} else {
		w.arrive()
	}
	return w.verdict
}

// Nftables begins the names of nftables tables in a Ruleset.
const Nftables = "nftables "

// ourNFTables begins the names of places in our own table of nftables.
const ourNFTables = "nft "

// Barrier is a rule or a policy of another program that stops packets to Services.
type Barrier struct {
	By     string // "filter INPUT, policy DROP"; "filter INPUT 7"
	Rule   string // as iptables-save writes it; empty for a policy
	Packet Packet // an example
	Sure   bool   // no unknown rule matters
}

// String says what is wrong, and the remedy.
func (b Barrier) String() string {
	verb := "stops"
	if !b.Sure {
		verb = "may stop"
	}
	at := b.By
	if b.Rule != "" {
		at += " (" + b.Rule + ")"
	}
	remedy := "let its owner accept Services, or accept them in a rule before it"
	if strings.HasPrefix(b.By, Nftables) {
		remedy = "an accept in another table does not undo that; " + remedy + " in the same table"
	}
	return fmt.Sprintf("%s %s packets to Services, such as %v: %s", at, verb, b.Packet, remedy)
}

// Barriers returns what stops some of the packets, once each, except for our own rules. ours recognizes our chains of
// iptables by name.
func Barriers(s state.State, packets []Packet, where Where, ours func(chain string) bool) []Barrier {
	var list []Barrier
	for _, p := range packets {
		v := Of(s, p, where)
		own := slices.ContainsFunc(strings.Fields(v.By), ours) || strings.HasPrefix(v.By, ourNFTables) || v.By == "IPVS" || v.By == "routing"
		known := slices.ContainsFunc(list, func(b Barrier) bool {
			return b.By == v.By && b.Packet.Destination.Addr().Is4() == p.Destination.Addr().Is4()
		})
		if v.Fate != Dropped && v.Fate != Refused || own || known {
			continue
		}
		b := Barrier{By: v.By, Packet: v.Packet, Sure: len(v.Doubts) == 0}
		for _, step := range v.Steps {
			if step.At == v.By {
				b.Rule = step.Rule
			}
		}
		list = append(list, b)
	}
	return list
}
