// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Text returns what follows "-A NAME " of the rule in iptables-save's spelling. A rule that is written otherwise is
// listed otherwise: networks, the interface and the protocol come first, in this order, and all else stays as it is.
func (r Rule) Text(f state.Family) string {
	var at [6][]string
	for _, m := range r.Matches {
		if _, ping := m.(EchoRequest); ping {
			at[protocolPlace] = append(at[protocolPlace], "-p "+icmpWords(f).protocol)
		}
		at[placeOf(m)] = append(at[placeOf(m)], r.matchText(m, f))
	}
	if r.Verdict != nil {
		at[verdictPlace] = []string{"-j " + verdictText(r.Verdict, f)}
	}
	return strings.Join(slices.Concat(at[:]...), " ")
}

// The places of the parts of a rule.
const (
	sourcePlace = iota
	destinationPlace
	interfacePlace
	protocolPlace
	modulePlace
	verdictPlace
)

func placeOf(m Match) int {
	switch m := m.(type) {
	case In:
		if m.Side == Source {
			return sourcePlace
		}
		return destinationPlace
	case Via:
		return interfacePlace
	case Proto:
		return protocolPlace
	}
	return modulePlace
}

func (r Rule) matchText(m Match, f state.Family) string {
	switch m := m.(type) {
	case About:
		return "-m comment --comment " + quote(string(m))
	case In:
		return negation(m.Not) + m.Side.word("-s ", "-d ") + m.Network.Masked().String()
	case Via:
		return negation(m.Not) + "-i " + m.pattern("+")
	case Proto:
		return "-p " + state.Protocol(m).Lower()
	case Port:
		return fmt.Sprintf("-m %s --dport %d", r.protocol().Lower(), uint16(m))
	case Member:
		return fmt.Sprintf("-m set %s--match-set %s %s", negation(m.Not), m.Set, directions()[m.Of])
	case Local:
		return "-m addrtype " + Side(m).word("--src-type", "--dst-type") + " LOCAL"
	case Tracked:
		return "-m conntrack --ctstate " + trackedStates()[m]
	case Marked:
		return "-m mark " + negation(m.Not) + "--mark " + m.text()
	case EchoRequest:
		return icmpWords(f).echoRequest
	}
	return fmt.Sprintf("-m %T", m) // there is no other type
}

func verdictText(v Verdict, f state.Family) string {
	switch v := v.(type) {
	case Do:
		if v == Refuse {
			return "REJECT --reject-with " + icmpWords(f).unreachable
		}
		return plainTargets()[v]
	case Jump:
		return string(v)
	case Mark:
		return fmt.Sprintf("MARK --set-xmark %#x/%#x", v.Value, v.Mask)
	case Masquerade:
		return "MASQUERADE " + v.text() + "--random-fully"
	case ShiftPort:
		return "DNAT --to-destination " + shifted()
	case Redirect:
		return "DNAT --to-destination " + netip.Addr(v).String()
	case Join:
		return "NETMAP --to " + state.JoinedNetwork(f).String()
	}
	return fmt.Sprintf("%T", v) // there is no other type
}

// protocol is the one that the rule's packets have; 0: any.
func (r Rule) protocol() state.Protocol {
	for _, m := range r.Matches {
		if p, ok := m.(Proto); ok {
			return state.Protocol(p)
		}
	}
	return 0
}

func (s Side) word(source, destination string) string {
	if s == Source {
		return source
	}
	return destination
}

// pattern is the interface's name or, with a firewall's word for any end, the names' beginning.
func (m Via) pattern(any string) string {
	if m.Begins {
		return m.Interface + any
	}
	return m.Interface
}

// text leaves out a mask of all bits.
func (m Marked) text() string {
	if m.Mask == ^uint32(0) {
		return fmt.Sprintf("%#x", m.Value)
	}
	return fmt.Sprintf("%#x/%#x", m.Value, m.Mask)
}

func (v Masquerade) text() string {
	if v == (Masquerade{}) {
		return ""
	}
	return "--to-ports " + v.ports() + " "
}

func (v Masquerade) ports() string {
	if v.First == v.Last {
		return strconv.Itoa(int(v.First))
	}
	return fmt.Sprintf("%d-%d", v.First, v.Last)
}

func negation(not bool) string {
	if not {
		return "! "
	}
	return ""
}

// shifted has the kernel move PortShift to FirstPort, and all other ports as far.
func shifted() string {
	return fmt.Sprintf(":%d-%d/%d", state.FirstPort, state.LastPort, state.PortShift)
}

// icmp are the words in which a family's rules differ.
type icmp struct{ protocol, echoRequest, unreachable string }

func icmpWords(f state.Family) icmp {
	if f == state.IPv6 {
		return icmp{"ipv6-icmp", "-m icmp6 --icmpv6-type 128", "icmp6-port-unreachable"}
	}
	return icmp{"icmp", "-m icmp --icmp-type 8", "icmp-port-unreachable"}
}

func directions() []string {
	return []string{To: "dst", ToPort: "dst,dst", ToPortFrom: "dst,dst,src", FromPort: "src,dst", From: "src"}
}

func trackedStates() []string {
	return []string{New: "NEW", Established: "RELATED,ESTABLISHED", Translated: "DNAT"}
}

func plainTargets() []string { return []string{Accept: "ACCEPT", Return: "RETURN", Drop: "DROP"} }

// quote spells a comment. One that is a word of letters, digits, - and _ has no quotes.
func quote(comment string) string {
	special := func(c rune) bool {
		return c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}
	if comment != "" && !strings.ContainsFunc(comment, special) {
		return comment
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(comment) + `"`
}
