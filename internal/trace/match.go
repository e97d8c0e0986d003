// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// pingV6 is the protocol number of an echo request in IPv6.
const pingV6 state.Protocol = 58

// The types of an echo request.
const (
	echo   = 8
	echoV6 = 128
)

// answer says whether something matches.
type answer uint8

const (
	no answer = iota
	yes
	maybe // unknown
)

func answerOf(is, not bool) answer {
	if is != not {
		return yes
	}
	return no
}

// finding is the result of a match.
type finding struct {
	answer  answer
	words   string // of yes: the reason; of maybe: what is not known
	assumes string // an assumption behind the answer
	service string // the comment of the set entry that matched
	mark    uint32 // the mark of that entry
}

// match is one match of a rule.
type match func(*walk) finding

// number returns the protocol number in the packet.
func (w *walk) number() state.Protocol {
	if w.packet.Protocol == Ping && w.family == state.IPv6 {
		return pingV6
	}
	return w.packet.Protocol
}

// isOrNot returns "is" or its negation; verb picks one of any other two texts.
func isOrNot(not bool) string { return verb(not, "is not", "is") }

func verb(not bool, negative, positive string) string {
	if not {
		return negative
	}
	return positive
}

// side returns the packet's source or destination, and its word.
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
		is, assumes := w.packet.in == name || isPrefix && strings.HasPrefix(w.packet.in, prefix), ""
		if w.packet.inUnknown {
			is, assumes = false, fmt.Sprintf("the packet is taken not to come by %s: its interface is not known", name)
		}
		words := fmt.Sprintf("the packet %s %s", verb(not, "did not come by", "came by"), name)
		return finding{answer: answerOf(is, not), assumes: assumes, words: words}
	}
}

// byLeaving matches the interface by which the packet leaves: none if it is for the node, and not lo if it is for
// elsewhere. The rest depends on the routes.
func byLeaving(name string, not bool) match {
	return func(w *walk) finding {
		_, local := w.local(w.packet.Destination.Addr())
		prefix, isPrefix := strings.CutSuffix(name, "+")
		lo := name == "lo" || isPrefix && strings.HasPrefix("lo", prefix)
		if !local && (!lo || isPrefix) {
			return finding{answer: maybe, words: "the interface by which it leaves is not known"}
		}
		words := fmt.Sprintf("the packet %s %s", verb(not, "does not leave by", "leaves by"), name)
		return finding{answer: answerOf(local && lo, not), words: words}
	}
}

func byProtocol(name string, n state.Protocol, not bool) match {
	return func(w *walk) finding {
		return finding{answer: answerOf(w.number() == n, not), words: fmt.Sprintf("the protocol %s %s", isOrNot(not), name)}
	}
}

func byMark(value, mask uint32, not bool) match {
	return func(w *walk) finding {
		words := fmt.Sprintf("mark %#x is one of %#x/%#x", w.packet.mark, value, mask)
		switch {
		case value == mask && value&(value-1) == 0:
			words = fmt.Sprintf("mark bit %#x %s set", value, isOrNot(not))
		case not:
			words = fmt.Sprintf("mark %#x is none of %#x/%#x", w.packet.mark, value, mask)
		}
		return finding{answer: answerOf(w.packet.mark&mask == value, not), words: words}
	}
}

// byState matches conntrack's state of the packet: the first of a connection, unless it is an answer.
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

// ports is a range, both ends in it.
type ports struct{ first, last uint16 }

func (p ports) String() string {
	if p.first == p.last {
		return strconv.Itoa(int(p.first))
	}
	return fmt.Sprintf("%d-%d", p.first, p.last)
}

func byPorts(source bool, ranges []ports, not bool) match {
	return func(w *walk) finding {
		at, who := w.side(source)
		if source && at.Port() == 0 {
			return finding{answer: maybe, words: "the source port is not known"}
		}
		is := slices.ContainsFunc(ranges, func(p ports) bool { return p.first <= at.Port() && at.Port() <= p.last })
		words := fmt.Sprintf("%s port %s %v", who, isOrNot(not), ranges[0])
		if len(ranges) > 1 {
			words = fmt.Sprintf("%s port %s among %v", who, isOrNot(not), ranges)
		}
		return finding{answer: answerOf(is, not), words: words}
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

// byFlags looks at the TCP flags asked: the first packet of a connection has SYN, its answer has ACK too.
func byFlags(asked, set string, not bool) match {
	return func(w *walk) finding {
		has := []string{"SYN"}
		if w.packet.established {
			has = append(has, "ACK")
		}
		is := true
		for flag := range strings.SplitSeq(asked, ",") {
			is = is && slices.Contains(has, flag) == slices.Contains(strings.Split(set, ","), flag)
		}
		return finding{answer: answerOf(is, not), words: "its TCP flags " + isOrNot(not) + " " + set + " of " + asked}
	}
}

func byIPVS(not bool) match {
	return func(w *walk) finding {
		return finding{answer: answerOf(w.packet.virtual.IsValid(), not), words: "it " + isOrNot(not) + " IPVS that sent it"}
	}
}

// byVirtual matches a field of the virtual server. Like all matches of -m ipvs but --ipvs itself, even inverted ones,
// it matches nothing that IPVS has not taken.
func byVirtual(field string, value any, is func(packet) bool, not bool) match {
	return func(w *walk) finding {
		if !w.packet.virtual.IsValid() {
			return finding{}
		}
		return finding{answer: answerOf(is(w.packet), not), words: fmt.Sprintf("%s %s %v", field, isOrNot(not), value)}
	}
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

// dimensions returns how many directions a match of a set needs; 0: the type is not known.
func dimensions(t state.SetType) int {
	switch t {
	case state.HashIP, state.BitmapPort:
		return 1
	case state.HashIPPort, state.MapIPPortToPort, state.MapIPPortToIP:
		return 2
	case state.HashIPPortIP, state.HashIPPortNet:
		return 3
	}
	return 0
}

// namesServices reports whether the comment of an entry is that of the Service that the packet is for.
func namesServices(t state.SetType) bool { return t == state.BitmapPort || dimensions(t) == 2 }

// look looks for the packet in a set, as the kernel does. The finding has words even if the answer is no.
func (w *walk) look(name state.SetName, directions []string) finding {
	set, exists := w.state.Sets[name]
	needs, called := dimensions(set.Type), name.Bare()
	switch {
	case !exists:
		return finding{answer: maybe, words: fmt.Sprintf("set %s is not known", called)}
	case needs == 0:
		return finding{answer: maybe, words: fmt.Sprintf("set %s is of type %s", called, set.Type)}
	case len(directions) < needs, set.Family != 0 && set.Family != w.family:
		return finding{words: fmt.Sprintf("%s has nothing of this kind", called)}
	}
	key, fits, known := w.key(name, set.Type, directions)
	switch {
	case !known && w.packet.Protocol == Ping:
		return finding{answer: maybe, words: "a ping has other things in the place of a port"}
	case !known:
		return finding{answer: maybe, words: "the source port is not known"}
	case !fits:
		return finding{words: fmt.Sprintf("%s has no entry for such packets", called)}
	}
	entry, row, found := w.entry(key, set.Type)
	if !found {
		return finding{words: fmt.Sprintf("%s does not have %s", called, key.Member())}
	}
	f := finding{answer: yes, mark: row.Mark, words: fmt.Sprintf("%s has %s", called, entry.Member())}
	if row.Comment != "" {
		f.words += " (" + row.Comment + ")"
	}
	if namesServices(set.Type) {
		f.service = row.Comment
	}
	return f
}

// key returns the packet's entry in a set, whether the type can have one for it, and whether the packet's ports are
// known.
func (w *walk) key(name state.SetName, t state.SetType, directions []string) (k state.SetEntry, fits, known bool) {
	at := func(i int) netip.AddrPort {
		end, _ := w.side(directions[i] == "src")
		return end
	}
	k = state.SetEntry{Set: name}
	if t == state.BitmapPort {
		k.Port = at(0).Port()
		tcpOrUDP := w.packet.Protocol == state.TCP || w.packet.Protocol == state.UDP
		if name.Firewall() == state.OnNFTables { // it takes what is in the header there, of any protocol
			return k, true, k.Port != 0
		}
		return k, tcpOrUDP, k.Port != 0 || w.packet.Protocol == Ping
	}
	k.Address = at(0).Addr()
	if t == state.HashIP {
		return k, true, true
	}
	k.Protocol, k.Port = w.number(), at(1).Port()
	known = k.Port != 0
	if w.packet.Protocol == Ping { // the kernel takes type and code for the port
		k.Port, known = echo<<8, true
		if w.family == state.IPv6 {
			k.Port = echoV6 << 8
		}
	}
	if t == state.HashIPPortIP || t == state.HashIPPortNet {
		third := at(2).Addr()
		k.Source = netip.PrefixFrom(third, third.BitLen())
	}
	return k, true, known
}

// entry returns the entry that holds k. Entries of networks may be shorter than k; the longest counts.
func (w *walk) entry(k state.SetEntry, t state.SetType) (state.SetEntry, state.Entry, bool) {
	row, ok := w.state.Entries[k]
	if ok || t != state.HashIPPortNet {
		return k, row, ok
	}
	for bits := k.Source.Bits(); bits >= 0; bits-- {
		shorter := k
		shorter.Source = netip.PrefixFrom(k.Source.Addr(), bits).Masked()
		if row, ok := w.state.Entries[shorter]; ok {
			return shorter, row, true
		}
	}
	return k, state.Entry{}, false
}
