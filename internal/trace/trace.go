// SPDX-License-Identifier: Apache-2.0

// Package trace says what becomes of one packet in a State, and why.
//
// It does what the kernel does with the first packet of a connection, or with a ping: it goes through the
// chains of the State in the order of the kernel's hooks, by the rules as they are written there, asks IPVS'
// tables, and follows the packet until it leaves the node. It knows of no Service and of no plan, so that it
// can judge both: whatever the rows say is what comes out.
//
// It understands what kube-ipvs and kube-proxy write, and the simple rules of others. A rule that it does not
// understand counts as one that does not match, and if that makes a difference, the verdict says so, among
// its doubts: nothing is guessed in silence. It is silent about what it is not told: rules and policies of
// others without Where.Rules, routes, what is in conntrack, and who listens at a port.
//
// The package is pure. How a State is read is the kernel packages' business.
package trace

import (
	"fmt"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ping is the protocol of a Packet that is an ICMP echo request, of either family.
const Ping state.Protocol = 1

// Packet is the first one that a client sends.
type Packet struct {
	Protocol state.Protocol // TCP, UDP, SCTP or Ping

	// Source is the client. Port 0: any. What the node itself sends may have no address: the kernel picks one
	// then.
	Source netip.AddrPort

	Destination netip.AddrPort // Port 0 for Ping
}

// String is "203.0.113.9 -> 10.96.0.1:80/TCP", or with " ping" at its end.
func (p Packet) String() string {
	to := p.Destination.String() + "/" + p.Protocol.String()
	if p.Protocol == Ping {
		to = p.Destination.Addr().String() + " ping"
	}
	return p.client() + " -> " + to
}

func (p Packet) client() string {
	switch {
	case !p.Source.Addr().IsValid():
		return "?"
	case p.Source.Port() == 0:
		return p.Source.Addr().String()
	}
	return p.Source.String()
}

// Check says what keeps p from being a packet that can be traced.
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

// Where is what counts beside the packet and the rows.
type Where struct {
	Node      bool   // the node itself sends the packet
	Interface string // the one that another's packet comes by; empty: not known

	// Addresses are the node's own, but for those on state.DummyLink. That of loopback need not be there.
	Addresses []netip.Addr

	// Rules are those of the whole node, of others too. Without them, those in the State are followed alone.
	Rules state.Ruleset
}

// Fate is what becomes of a packet.
type Fate uint8

// The fates.
const (
	Served    Fate = iota + 1 // IPVS sends it to one of the endpoints
	Refused                   // the client is told that nobody is there
	Dropped                   // the client is told nothing
	Host                      // no Service's: it is for the node itself
	Forwarded                 // no Service's: it goes on to where it was sent
)

// String is one word.
func (f Fate) String() string {
	switch f {
	case Served:
		return "served"
	case Refused:
		return "refused"
	case Dropped:
		return "dropped"
	case Host:
		return "host"
	case Forwarded:
		return "forwarded"
	}
	return fmt.Sprintf("fate%d", uint8(f))
}

// Verdict is what becomes of a packet, and why.
type Verdict struct {
	Packet Packet // with the source that it has
	Node   bool   // the node itself sent it
	Fate   Fate

	// By is who decided: a rule, "filter KUBE-IPVS-FILTER 6", "IPVS" or "routing".
	By string

	// Service is whose port was asked, "namespace/name:port", as the comments of set entries tell it. Empty:
	// nobody's, or there are no comments.
	Service string

	Server      state.VirtualServerKey // which one took the packet; zero: none
	Endpoints   []Endpoint             // that Server may choose; sorted
	Sent        netip.AddrPort         // where a rule of others sends the packet instead; zero: none does
	Resting     int                    // real servers of Server that take no new connections
	Masqueraded bool                   // whoever gets the packet sees an address of this node as its source

	Steps  []Step
	Doubts []string // what the verdict would need to know to be sure
}

// Endpoint is one of those that may get the packet.
type Endpoint struct {
	Address     netip.AddrPort
	Weight      uint32
	Method      state.ForwardMethod
	Masqueraded bool // it sees an address of this node as the client's
	Fate        Fate // Served, or Dropped or Refused on the way to it
}

// Step is something that happened to the packet on its way.
type Step struct {
	At   string // "nat KUBE-SERVICES 2", with the number of the rule; "IPVS", "routing"
	Text string
	Rule string // as iptables-save writes it; empty if it was none

	// Only are the endpoints on the way to which it happens. Empty: all.
	Only []netip.AddrPort
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
