// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// rule is a rule in iptables-save's spelling, as far as it is understood.
type rule struct {
	matches []match
	target  target
	unknown []string // options that are not understood
}

// target is what happens to packets that match.
type target struct {
	name       string      // of a chain too; empty: nothing happens
	leaves     bool        // -g: a packet that returns from the chain leaves this one too
	with       string      // of REJECT, SNAT and DNAT
	to         destination // of DNAT and REDIRECT
	mark, mask uint32      // of MARK
	set        state.SetName
	directions []string
	maps       bool // of SET
}

// parser reads the words of a rule.
type parser struct {
	words  []string
	module string // whose options come: a match or, after -j, a target
	rule   rule
}

// parseRule reads a rule. One in brackets is what our table of nftables has in place of a rule of ours: it does what
// nothing here can follow.
func parseRule(line string) rule {
	if strings.HasPrefix(line, "[") {
		return rule{unknown: []string{"not as kube-ipvs wrote it"}, target: target{name: "?"}}
	}
	p := parser{words: state.Words(line)}
	for len(p.words) > 0 {
		p.option()
	}
	if t := p.rule.target; t.name == "SET" && !t.maps {
		p.rule.unknown = append(p.rule.unknown, "-j SET without --map-mark")
	}
	return p.rule
}

// option reads one option and its arguments.
func (p *parser) option() {
	not := p.words[0] == "!"
	if not {
		p.words = p.words[1:]
	}
	if len(p.words) == 0 {
		p.rule.unknown = append(p.rule.unknown, "!")
		return
	}
	name := p.words[0]
	arguments := 1
	for arguments < len(p.words) && !strings.HasPrefix(p.words[arguments], "-") && p.words[arguments] != "!" {
		arguments++
	}
	if name == "--comment" { // it may begin with anything
		arguments = min(2, len(p.words))
	}
	args := p.words[1:arguments]
	p.words = p.words[arguments:]
	if state.Aside(p.rule.target.name) && p.module == p.rule.target.name {
		return // how something is logged or counted does not matter
	}
	if !p.take(name, args, not) {
		words := append([]string{name}, args...)
		if not {
			words = slices.Insert(words, 0, "!")
		}
		p.rule.unknown = append(p.rule.unknown, strings.Join(words, " "))
	}
}

// take reads an option, and reports whether it is understood. So do the methods that it calls.
func (p *parser) take(name string, args []string, not bool) bool {
	switch len(args) {
	case 0:
		return p.flag(name, not)
	case 1:
		return p.base(name, args[0], not) || p.matchOption(name, args[0], not) || !not && p.targetOption(name, args[0])
	case 2:
		return p.setOption(name, args, not)
	}
	return false
}

// flag reads options that are a word alone.
func (p *parser) flag(name string, not bool) bool {
	switch p.module + " " + name {
	case "MASQUERADE --random-fully", "MASQUERADE --random", "SNAT --random-fully", "SNAT --random", "SNAT --persistent",
		"DNAT --random", "DNAT --persistent", "REDIRECT --random":
		return !not
	case "SET --map-mark":
		p.rule.target.maps = true
		return !not
	case "ipvs --ipvs":
		return p.add(byIPVS(not))
	}
	return false
}

// add adds a match. It reports true, as take does for what it understands.
func (p *parser) add(m match) bool {
	p.rule.matches = append(p.rule.matches, m)
	return true
}

// base reads the options that belong to no module, and the names of modules.
func (p *parser) base(name, arg string, not bool) bool {
	switch name {
	case "-s", "-d":
		return p.network(name == "-s", arg, not)
	case "-i":
		return p.add(byInterface(arg, not))
	case "-o":
		return p.add(byLeaving(arg, not))
	case "-p":
		return p.protocol(arg, not)
	case "-m":
		p.module = arg
		return !not && slices.Contains([]string{
			"comment", "set", "mark", "conntrack", "state", "addrtype", "multiport", "tcp", "udp", "sctp", "icmp", "icmp6", "ipvs",
		}, arg)
	case "-j", "-g":
		p.module = arg
		p.rule.target.name, p.rule.target.leaves = arg, name == "-g"
		return !not
	}
	return false
}

func (p *parser) network(source bool, arg string, not bool) bool {
	n, err := netip.ParsePrefix(arg)
	if err != nil {
		a, err := netip.ParseAddr(arg)
		if err != nil || a.Zone() != "" {
			return false
		}
		n = netip.PrefixFrom(a, a.BitLen())
	}
	return p.add(byAddress(source, n.Masked(), not))
}

func (p *parser) protocol(arg string, not bool) bool {
	numbers := map[string]state.Protocol{
		"tcp": state.TCP, "udp": state.UDP, "sctp": state.SCTP, "icmp": Ping, "ipv6-icmp": pingV6,
	}
	n, ok := numbers[arg]
	if !ok {
		number, err := strconv.ParseUint(arg, 10, 8)
		if err != nil || number == 0 {
			return false
		}
		n = state.Protocol(number)
	}
	return p.add(byProtocol(arg, n, not))
}

// matchOption reads the options of matches with one argument.
func (p *parser) matchOption(name, arg string, not bool) bool {
	switch p.module + " " + name {
	case "comment --comment":
		return !not
	case "mark --mark":
		value, mask, ok := parseMark(arg)
		return ok && p.add(byMark(value, mask, not))
	case "conntrack --ctstate", "state --state":
		states := strings.Split(arg, ",")
		unknown := func(s string) bool {
			return !slices.Contains([]string{"INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"}, s)
		}
		return !slices.ContainsFunc(states, unknown) && p.add(byState(states, not))
	case "addrtype --src-type", "addrtype --dst-type":
		return arg == "LOCAL" && p.add(byKind(name == "--src-type", not))
	case "tcp --dport", "udp --dport", "sctp --dport", "tcp --sport", "udp --sport", "sctp --sport":
		return p.ports(strings.HasPrefix(name, "--s"), []string{arg}, not)
	case "multiport --dports", "multiport --sports":
		return p.ports(name == "--sports", strings.Split(arg, ","), not)
	case "icmp --icmp-type", "icmp6 --icmpv6-type":
		kind, err := strconv.ParseUint(arg, 10, 8)
		return err == nil && p.add(byEcho(kind, not))
	}
	return p.module == "ipvs" && p.ipvsOption(name, arg, not)
}

// ports reads ranges of ports.
func (p *parser) ports(source bool, list []string, not bool) bool {
	ranges := make([]ports, len(list))
	for i, text := range list {
		if !parsePorts(text, &ranges[i]) {
			return false
		}
	}
	return p.add(byPorts(source, ranges, not))
}

func (p *parser) ipvsOption(name, arg string, not bool) bool {
	switch name {
	case "--vproto":
		n, err := strconv.ParseUint(arg, 10, 8)
		is := func(k packet) bool { return k.Protocol == state.Protocol(n) }
		return err == nil && p.add(byVirtual("the protocol", state.Protocol(n), is, not))
	case "--vaddr":
		a, err := netip.ParseAddr(arg)
		is := func(k packet) bool { return k.virtual.Addr() == a }
		return err == nil && p.add(byVirtual("the virtual server's address", a, is, not))
	case "--vport":
		n, err := strconv.ParseUint(arg, 10, 16)
		is := func(k packet) bool { return k.virtual.Port() == uint16(n) }
		return err == nil && p.add(byVirtual("the virtual server's port", n, is, not))
	}
	return false
}

// targetOption reads the options of targets with one argument.
func (p *parser) targetOption(name, arg string) bool {
	t, ok := &p.rule.target, true
	switch p.module + " " + name {
	case "MASQUERADE --to-ports":
	case "REJECT --reject-with", "SNAT --to-source":
		t.with = arg
	case "DNAT --to-destination":
		t.with = arg
		t.to, _ = parseDestination(arg)
	case "NETMAP --to":
		t.with = arg
		var err error
		t.to.network, err = netip.ParsePrefix(arg)
		ok = err == nil
	case "REDIRECT --to-ports":
		t.with = arg
		ok = parseNumber(arg, &t.to.port)
	case "MARK --set-xmark":
		t.mark, t.mask, ok = parseMark(arg)
	default:
		ok = false
	}
	return ok
}

// setOption reads the options with two arguments: mostly a set and its directions.
func (p *parser) setOption(name string, args []string, not bool) bool {
	set, directions := state.SetName(args[0]), strings.Split(args[1], ",")
	isSet := !slices.ContainsFunc(directions, func(d string) bool { return d != "src" && d != "dst" })
	switch p.module + " " + name {
	case "tcp --tcp-flags":
		return p.add(byFlags(args[0], args[1], not))
	case "set --match-set":
		return isSet && p.add(bySet(set, directions, not))
	case "SET --map-set":
		p.rule.target.set, p.rule.target.directions = set, directions
		return isSet && !not
	}
	return false
}

// parseMark reads "0x4000/0x4000", or "0x100", which is all bits.
func parseMark(s string) (value, mask uint32, ok bool) {
	left, right, masked := strings.Cut(s, "/")
	v, err := strconv.ParseUint(left, 0, 32)
	if err != nil {
		return 0, 0, false
	}
	if !masked {
		return uint32(v), ^uint32(0), true
	}
	m, err := strconv.ParseUint(right, 0, 32)
	return uint32(v), uint32(m), err == nil
}

// parsePorts reads "80" or "1024:2048", in which either end may be missing.
func parsePorts(s string, p *ports) bool {
	from, to, isRange := strings.Cut(s, ":")
	if !isRange {
		to = from
	}
	read := func(text string, ifMissing uint16) (uint16, bool) {
		if text == "" && isRange {
			return ifMissing, true
		}
		n, err := strconv.ParseUint(text, 10, 16)
		return uint16(n), err == nil
	}
	var ok, ok2 bool
	p.first, ok = read(from, 0)
	p.last, ok2 = read(to, 65535)
	return ok && ok2
}
