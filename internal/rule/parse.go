// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Parse reads what Text wrote for family f. It fails on everything else, also on another spelling of the same: what is
// read is what was written.
func Parse(f state.Family, text string) (Rule, error) {
	p := parser{family: f, words: state.Words(text)}
	for len(p.words) > 0 && p.err == nil {
		p.part()
	}
	switch {
	case p.err != nil:
	case p.rule.Verdict == nil:
		p.err = errors.New("it has no target")
	case p.rule.Text(f) != text:
		p.err = fmt.Errorf("iptables-save spells it %q", p.rule.Text(f))
	}
	if p.err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", text, p.err)
	}
	return p.rule, nil
}

// ours begins the names of our sets and chains.
const ours = "KUBE-"

// parser reads the words of a rule. The first error stays.
type parser struct {
	family state.Family
	words  []string
	rule   Rule
	err    error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// next takes the next word.
func (p *parser) next() string {
	if len(p.words) == 0 {
		p.fail("it ends too early")
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

// skip takes the next word if it is that one.
func (p *parser) skip(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.next()
	return true
}

// want takes the next word, which has to be that one.
func (p *parser) want(word string) {
	if got := p.next(); got != word {
		p.fail("%q is not %s", got, word)
	}
}

func (p *parser) add(m Match) { p.rule.Matches = append(p.rule.Matches, m) }

// part reads a match or the target.
func (p *parser) part() {
	if p.rule.Verdict != nil {
		p.fail("%q comes after the target", p.next())
		return
	}
	not := p.skip("!")
	switch option := p.next(); {
	case option == "-s":
		p.add(In{Source, p.network(), not})
	case option == "-d":
		p.add(In{Destination, p.network(), not})
	case option == "-i":
		name, begins := strings.CutSuffix(p.next(), "+")
		p.add(Via{name, begins, not})
	case not:
		p.fail("%q cannot come after !", option)
	case option == "-p":
		p.protocol()
	case option == "-m":
		p.module()
	case option == "-j":
		p.rule.Verdict = p.target()
	default:
		p.fail("option %q is none of ours", option)
	}
}

func (p *parser) network() netip.Prefix {
	n, err := netip.ParsePrefix(p.next())
	if err != nil || state.FamilyOf(n.Addr()) != p.family {
		p.fail("it names no network of %v", p.family)
	}
	return n
}

// protocol reads the transport protocol. That of ICMP is a part of EchoRequest.
func (p *parser) protocol() {
	switch name := p.next(); name {
	case icmpWords(p.family).protocol:
	case "tcp", "udp", "sctp":
		protocol, _ := state.ParseProtocol(name)
		p.add(Proto(protocol))
	default:
		p.fail("protocol %q is none of ours", name)
	}
}

// module reads a match of one of iptables' modules.
func (p *parser) module() {
	switch name := p.next(); name {
	case "comment":
		p.want("--comment")
		p.add(About(p.next()))
	case "set":
		p.add(p.member())
	case "mark":
		p.add(p.marked())
	case "conntrack":
		p.want("--ctstate")
		p.add(Tracked(p.oneOf(trackedStates())))
	case "addrtype":
		p.add(Local(p.oneOf([]string{Source: "--src-type", Destination: "--dst-type"})))
		p.want("LOCAL")
	case "tcp", "udp", "sctp":
		p.want("--dport")
		p.add(Port(p.number(p.next(), 16)))
	case "icmp", "icmp6":
		p.words = p.words[min(2, len(p.words)):] // Text knows the two
		p.add(EchoRequest{})
	default:
		p.fail("match %q is none of ours", name)
	}
}

func (p *parser) member() Member {
	not := p.skip("!")
	p.want("--match-set")
	set := state.SetName(p.next())
	if !strings.HasPrefix(string(set.Bare()), ours) {
		p.fail("set %q is none of ours", set)
	}
	return Member{set, Parts(p.oneOf(directions())), not}
}

func (p *parser) marked() Marked {
	not := p.skip("!")
	p.want("--mark")
	value, mask, masked := strings.Cut(p.next(), "/")
	if !masked {
		return Marked{uint32(p.number(value, 32)), ^uint32(0), not}
	}
	return Marked{uint32(p.number(value, 32)), uint32(p.number(mask, 32)), not}
}

// target reads what follows "-j".
func (p *parser) target() Verdict {
	name := p.next()
	if i := slices.Index(plainTargets(), name); i >= 0 {
		return Do(i)
	}
	if strings.HasPrefix(name, ours) {
		return Jump(name)
	}
	switch name {
	case "REJECT":
		p.want("--reject-with")
		p.want(icmpWords(p.family).unreachable)
		return Refuse
	case "MARK":
		p.want("--set-xmark")
		value, mask, _ := strings.Cut(p.next(), "/")
		return Mark{uint32(p.number(value, 32)), uint32(p.number(mask, 32))}
	case "MASQUERADE":
		return p.masquerade()
	case "DNAT":
		return p.destination()
	case "NETMAP":
		p.want("--to")
		p.want(state.JoinedNetwork(p.family).String())
		return Join{}
	}
	p.fail("target %q is none of ours", name)
	return nil
}

func (p *parser) masquerade() Masquerade {
	var m Masquerade
	if p.skip("--to-ports") {
		first, last, isRange := strings.Cut(p.next(), "-")
		if !isRange {
			last = first
		}
		m = Masquerade{uint16(p.number(first, 16)), uint16(p.number(last, 16))}
	}
	p.want("--random-fully")
	return m
}

func (p *parser) destination() Verdict {
	p.want("--to-destination")
	to := p.next()
	if to == shifted() {
		return ShiftPort{}
	}
	a, err := netip.ParseAddr(to)
	if err != nil || a.Zone() != "" || state.FamilyOf(a) != p.family {
		p.fail("%q is no address of %v", to, p.family)
	}
	return Redirect(a)
}

// oneOf takes a word of a list, and returns its place.
func (p *parser) oneOf(list []string) int {
	word := p.next()
	i := slices.Index(list, word)
	if i < 0 {
		p.fail("%q is none of %s", word, strings.Join(list, ", "))
	}
	return max(i, 0)
}

func (p *parser) number(text string, bits int) uint64 {
	n, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		p.fail("%q is no number", text)
	}
	return n
}
