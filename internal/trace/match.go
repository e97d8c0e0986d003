// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// pingV6 is the protocol number that an echo request has in IPv6.
const pingV6 state.Protocol = 58

// The types of an echo request.
const (
	echo   = 8
	echoV6 = 128
)

// answer is whether something matches.
type answer uint8

const (
	no answer = iota
	yes
	maybe // it can't be told
)

func answerOf(is, not bool) answer {
	if is != not {
		return yes
	}
	return no
}

// finding is what a match found.
type finding struct {
	answer  answer
	words   string // of yes: by what; of maybe: what is not known
	assumes string // what would have to be known to be sure of the answer
	service string // the comment of the set entry that matched
	mark    uint32 // the mark of that entry
}

// match is one match of a rule.
type match func(*walk) finding

// number is the protocol number in the packet.
func (w *walk) number() state.Protocol {
	if w.packet.Protocol == Ping && w.family == state.IPv6 {
		return pingV6
	}
	return w.packet.Protocol
}

func isOrNot(not bool) string {
	if not {
		return "is not"
	}
	return "is"
}

// side is the packet's source or destination, and the word for it.
func (w *walk) side(source bool) (netip.AddrPort, string) {
	if source {
		return w.packet.Source, "the source"
	}
	return w.packet.Destination, "the destination"
}

func byAddress(source bool, n netip.Prefix, not bool) match {
	return func(w *walk) finding {
		at, who := w.side(source)
		words := fmt.Sprintf("%s %s in %v", who, isOrNot(not), n)
		if n.IsSingleIP() {
			words = fmt.Sprintf("%s %s %v", who, isOrNot(not), n.Addr())
		}
		return finding{answer: answerOf(n.Contains(at.Addr()), not), words: words}
	}
}

func byInterface(name string, not bool) match {
	return func(w *walk) finding {
		prefix, isPrefix := strings.CutSuffix(name, "+")
		is := w.packet.in == name || isPrefix && strings.HasPrefix(w.packet.in, prefix)
		verb, assumes := "came by", ""
		if not {
			verb = "did not come by"
		}
		if w.packet.inUnknown {
			is, assumes = false, fmt.Sprintf("the packet is taken not to come by %s: its interface is not known", name)
		}
		return finding{answer: answerOf(is, not), assumes: assumes, words: fmt.Sprintf("the packet %s %s", verb, name)}
	}
}

// byLeaving looks at the interface by which the packet leaves: none if it is for the node, and not lo if it
// is for elsewhere. By which else, the routes say.
func byLeaving(name string, not bool) match {
	return func(w *walk) finding {
		_, local := w.local(w.packet.Destination.Addr())
		prefix, isPrefix := strings.CutSuffix(name, "+")
		lo := name == "lo" || isPrefix && strings.HasPrefix("lo", prefix)
		if !local && (!lo || isPrefix) {
			return finding{answer: maybe, words: "the interface by which it leaves is not known"}
		}
		verb := "leaves by"
		if not {
			verb = "does not leave by"
		}
		return finding{answer: answerOf(local && lo, not), words: fmt.Sprintf("the packet %s %s", verb, name)}
	}
}

func byProtocol(name string, n state.Protocol, not bool) match {
	return func(w *walk) finding {
		return finding{answer: answerOf(w.number() == n, not), words: fmt.Sprintf("the protocol %s %s", isOrNot(not), name)}
	}
}

func byMark(value, mask uint32, not bool) match {
	return func(w *walk) finding {
		var words string
		switch {
		case value == mask && value&(value-1) == 0:
			words = fmt.Sprintf("mark bit %#x %s set", value, isOrNot(not))
		case not:
			words = fmt.Sprintf("mark %#x is none of %#x/%#x", w.packet.mark, value, mask)
		default:
			words = fmt.Sprintf("mark %#x is one of %#x/%#x", w.packet.mark, value, mask)
		}
		return finding{answer: answerOf(w.packet.mark&mask == value, not), words: words}
	}
}

// byState looks at what conntrack thinks of the packet: it is the first of a connection.
func byState(states []string, not bool) match {
	return func(w *walk) finding {
		is, words := "NEW", "the connection is new"
		if w.packet.established {
			is, words = "ESTABLISHED", "the connection is established"
		}
		if w.packet.untracked {
			is, words = "UNTRACKED", "conntrack does not know the packet"
		}
		if w.packet.redirected && slices.Contains(states, "DNAT") {
			is, words = "DNAT", "the connection has another destination"
		}
		return finding{answer: answerOf(slices.Contains(states, is), not), words: words}
	}
}

func byKind(source, not bool) match {
	return func(w *walk) finding {
		at, who := w.side(source)
		_, local := w.local(at.Addr())
		return finding{answer: answerOf(local, not), words: fmt.Sprintf("%s %s an address of this node", who, isOrNot(not))}
	}
}

func byPort(source bool, first, last uint16, not bool) match {
	return func(w *walk) finding {
		at, who := w.side(source)
		if source && at.Port() == 0 {
			return finding{answer: maybe, words: "the source port is not known"}
		}
		is := first <= at.Port() && at.Port() <= last
		words := fmt.Sprintf("%s port %s %d", who, isOrNot(not), first)
		if first != last {
			words += fmt.Sprintf("-%d", last)
		}
		return finding{answer: answerOf(is, not), words: words}
	}
}

// byPorts is byPort for several ranges.
func byPorts(source bool, ranges [][2]uint16, not bool) match {
	return func(w *walk) finding {
		at, who := w.side(source)
		if source && at.Port() == 0 {
			return finding{answer: maybe, words: "the source port is not known"}
		}
		is := slices.ContainsFunc(ranges, func(r [2]uint16) bool { return r[0] <= at.Port() && at.Port() <= r[1] })
		return finding{answer: answerOf(is, not), words: fmt.Sprintf("%s port %s among %v", who, isOrNot(not), ranges)}
	}
}

func byEcho(kind uint64, not bool) match {
	return func(w *walk) finding {
		is := w.number() == Ping && kind == echo || w.number() == pingV6 && kind == echoV6
		words := "it is an echo request"
		if not {
			words = fmt.Sprintf("it is not of ICMP type %d", kind)
		}
		return finding{answer: answerOf(is, not), words: words}
	}
}

// The matches of -m ipvs match nothing that IPVS has not taken, inverted or not, but for the one that asks
// just that.

func byIPVS(not bool) match {
	return func(w *walk) finding {
		return finding{answer: answerOf(w.packet.virtual.IsValid(), not), words: "it " + isOrNot(not) + " IPVS that sent it"}
	}
}

func byVirtual(is func(*walk) bool, words string, not bool) match {
	return func(w *walk) finding {
		if !w.packet.virtual.IsValid() {
			return finding{}
		}
		return finding{answer: answerOf(is(w), not), words: words}
	}
}

func byVirtualProtocol(p state.Protocol, not bool) match {
	is := func(w *walk) bool { return w.packet.Protocol == p }
	return byVirtual(is, fmt.Sprintf("the protocol %s %v", isOrNot(not), p), not)
}

func byVirtualAddress(a netip.Addr, not bool) match {
	is := func(w *walk) bool { return w.packet.virtual.Addr() == a }
	return byVirtual(is, fmt.Sprintf("the virtual server's address %s %v", isOrNot(not), a), not)
}

func byVirtualPort(n uint16, not bool) match {
	is := func(w *walk) bool { return w.packet.virtual.Port() == n }
	return byVirtual(is, fmt.Sprintf("the virtual server's port %s %d", isOrNot(not), n), not)
}

func bySet(set state.SetName, directions []string, not bool) match {
	return func(w *walk) finding {
		f := w.look(set, directions)
		switch {
		case f.answer == maybe || !not:
			return f
		case f.answer == yes:
			return finding{}
		}
		return finding{answer: yes, words: f.words}
	}
}
