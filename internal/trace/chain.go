// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// action is what a rule, or all rules of a hook, do with the packet.
type action uint8

const (
	goOn       action = iota // to the next rule
	leave                    // to the rule after the jump to this chain
	accept                   // to the next table or, in nftables, base chain
	masquerade               // that too, with another source
	drop
	reject
)

// final reports whether the other rules of the table are skipped.
func (a action) final() bool { return a >= accept }

type outcome struct {
	action  action
	by      string // the rule of a final action
	settles bool   // the connection's address: other chains of nat are not asked
}

// hook evaluates the jumps from a built-in chain. Rows do not have their order; this is the one in which kube-ipvs
// makes them: in iptables each above the one before it, in nftables below. A base chain of nftables is ours alone, so
// there the order is sure.
func (w *walk) hook(table state.RuleTable, builtIn string) outcome {
	jumps := w.jumps(table, builtIn)
	if table.Firewall() == state.OnNFTables {
		slices.Reverse(jumps)
	}
	for i, k := range jumps {
		if o := w.jump(k); o.action.final() {
			if table.Firewall() == state.OnIPTables {
				w.checkOrder(o, k, jumps[i+1:])
			}
			return o
		}
	}
	return outcome{}
}

func (w *walk) jumps(table state.RuleTable, builtIn string) []state.JumpKey {
	var keys []state.JumpKey
	for k := range w.state.Jumps {
		if k.Family == w.family && k.Table == table && k.From == builtIn {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b state.JumpKey) int { return b.Compare(a) })
	return keys
}

// jump evaluates the rule of a jump, or each of them if there are several different ones.
func (w *walk) jump(k state.JumpKey) outcome {
	for line := range strings.SplitSeq(w.state.Jumps[k].Rule, "\n") {
		if o := w.rule(place{k.Table, k.From, 0}, line, nil); o.action.final() {
			return o
		}
	}
	return outcome{}
}

// checkOrder adds a doubt if a later jump would change the outcome by coming first.
func (w *walk) checkOrder(o outcome, by state.JumpKey, others []state.JumpKey) {
	for _, k := range others {
		one := *w
		one.verdict = Verdict{}
		if other := one.jump(k); other.action.final() && other.action != o.action {
			w.doubt("%s %s: that %s comes before %s decides here, and the rows do not have their order", k.Table, k.From, by.To, k.To)
		}
	}
}

// place is where a rule is. Number 0 is a jump: rows do not have its number.
type place struct {
	table  state.RuleTable
	chain  string
	number int
}

// String is "nat KUBE-SERVICES 2", or "nft nat-KUBE-SERVICES 2" for a chain of our table of nftables.
func (p place) String() string {
	text := string(p.table) + " " + p.chain
	if p.table.Firewall() == state.OnNFTables {
		text = ourNFTables + chainName(p.table, p.chain)
	}
	if p.number != 0 {
		text += fmt.Sprintf(" %d", p.number)
	}
	return text
}

// chainName returns the name under which operators find a chain.
func chainName(t state.RuleTable, name string) string {
	if t.Firewall() == state.OnNFTables {
		return t.NFTChain(name)
	}
	return name
}

// chain evaluates the rules of a chain. above are the chains that led to it.
func (w *walk) chain(table state.RuleTable, name string, above []string) outcome {
	above = append(slices.Clip(above), name)
	rules, _ := w.rows(table, name)
	for i, line := range rules.Lines() {
		switch o := w.rule(place{table, name, i + 1}, line, above); {
		case o.action.final():
			return o
		case o.action == leave:
			return outcome{}
		}
	}
	return outcome{}
}

// rule evaluates one rule.
func (w *walk) rule(at place, line string, above []string) outcome {
	if *w.budget--; *w.budget < 0 {
		w.doubt("there are too many rules to look at; the rest counts as not matching")
		return outcome{}
	}
	r, known := w.rules[line]
	if !known {
		r = parseRule(line)
		w.rules[line] = r
	}
	words, service, unknown, all := w.matches(r)
	if !all {
		return outcome{}
	}
	if len(unknown) > 0 {
		if w.matters(at, line, r, above) {
			w.doubt("%v is not understood, and counts as not matching (%s): %s", at, strings.Join(unknown, ", "), line)
		}
		return outcome{}
	}
	if w.verdict.Service == "" && !w.packet.virtual.IsValid() {
		w.verdict.Service = service
	}
	return w.apply(at, line, r.target, matched{words, above})
}

// matched is what is known when a rule has matched.
type matched struct {
	words []string // the reasons
	above []string // the chains that led to it
}

// matters reports whether a match of the rule would change anything.
func (w *walk) matters(at place, line string, r rule, above []string) bool {
	one := *w
	one.verdict = Verdict{}
	o := one.apply(at, line, r.target, matched{nil, above})
	return o.action != goOn || one.packet != w.packet || len(one.verdict.Doubts) > 0
}

// matches reports whether all known matches of a rule match. If one surely does not, the unknown ones do not count.
func (w *walk) matches(r rule) (words []string, service string, unknown []string, all bool) {
	unknown, all = slices.Clip(r.unknown), true
	var assumed []string
	for _, m := range r.matches {
		f := m(w)
		switch f.answer {
		case no:
			if f.assumes == "" {
				return nil, "", nil, false
			}
			all = false
		case maybe:
			unknown = append(unknown, f.words)
		case yes:
			words = append(words, f.words)
			service = cmp.Or(service, f.service)
		}
		if f.assumes != "" {
			assumed = append(assumed, f.assumes)
		}
	}
	for _, a := range assumed {
		w.doubt("%s", a)
	}
	return words, service, unknown, all
}

// apply performs the target of a rule that matches.
func (w *walk) apply(at place, line string, t target, because matched) outcome {
	say := func(format string, args ...any) {
		text := cmp.Or(strings.Join(because.words, ", and "), "every packet here") + " -> " + fmt.Sprintf(format, args...)
		w.verdict.Steps = append(w.verdict.Steps, Step{At: at.String(), Text: text, Rule: line})
	}
	switch t.name {
	case "": // only counts
	case "RETURN":
		say("leaves the chain")
		return outcome{action: leave}
	case "ACCEPT":
		return w.accept(at, say)
	case "DROP":
		say("dropped, without an answer")
		return outcome{action: drop, by: at.String()}
	case "REJECT":
		say("refused (%s)", t.with)
		return outcome{action: reject, by: at.String()}
	case "MASQUERADE":
		say("masqueraded: the source becomes an address of this node")
		return outcome{masquerade, at.String(), true}
	case "SNAT":
		say("the source becomes %s", t.with)
		return outcome{masquerade, at.String(), true}
	case "DNAT", "REDIRECT", "NETMAP":
		return w.redirect(at, t, say)
	case "MARK":
		w.packet.mark = w.packet.mark&^t.mask ^ t.mark
		say("mark %#x", w.packet.mark)
	case "SET":
		if found := w.mapped(t); found != "" {
			because.words = append(because.words, found)
			say("mark %#x", w.packet.mark)
		}
	default:
		if !state.Aside(t.name) {
			return w.enter(at, t, because, say)
		}
	}
	return outcome{}
}

// accept ends the table of iptables, or the base chain of nftables: others at the same hook still see the packet. Our
// rules of nat in nftables give the connection the destination that it has, so that no other program gives it another.
func (w *walk) accept(at place, say func(string, ...any)) outcome {
	o := outcome{action: accept, by: at.String()}
	switch {
	case at.table == state.NAT.On(state.OnNFTables):
		o.settles = true
		say("keeps its destination, no more of nat")
	case at.table.Firewall() == state.OnNFTables || strings.HasPrefix(string(at.table), Nftables):
		say("no more of %s", w.base)
	default:
		say("no more of %s", at.table)
	}
	return o
}

// redirect gives the packet another destination.
func (w *walk) redirect(at place, t target, say func(string, ...any)) outcome {
	if t.to == (destination{}) {
		w.doubt("%v sends the packet to where is not understood (%s); it counts as not matching", at, t.with)
		return outcome{}
	}
	if _, local := w.local(w.packet.Destination.Addr()); t.name == "REDIRECT" && !local {
		w.doubt("%v sends the packet to the node's address on the interface it came by, which is not known", at)
	}
	to := t.to.of(w.packet.Destination)
	say("sent to %v instead", to)
	w.packet.Destination, w.packet.redirected, w.verdict.Sent = to, true, to
	return outcome{accept, at.String(), true}
}

// mapped gives the packet the mark that a set has for it, and returns the reason. That set identifies the Service
// better than others.
func (w *walk) mapped(t target) string {
	found := w.look(t.set, t.directions)
	if found.answer == maybe {
		w.doubt("the mark that %s may have for the packet counts as none: %s", t.set, found.words)
	}
	if found.answer != yes || found.mark == 0 {
		return ""
	}
	w.packet.mark = found.mark
	w.verdict.Service = cmp.Or(found.service, w.verdict.Service)
	return found.words
}

// enter goes to another chain.
func (w *walk) enter(at place, t target, because matched, say func(string, ...any)) outcome {
	_, exists := w.rows(at.table, t.name)
	switch {
	case slices.Contains(because.above, t.name):
		w.doubt("%v goes in a circle to %s, and counts as not matching", at, t.name)
		return outcome{}
	case !exists:
		w.doubt("%v goes to %s, which is neither a chain of the rows nor a target that is understood; it counts as not matching", at, t.name)
		return outcome{}
	}
	if len(because.words) > 0 {
		say("to %s", chainName(at.table, t.name))
	}
	o := w.chain(at.table, t.name, because.above)
	if !o.action.final() && t.leaves {
		return outcome{action: leave}
	}
	return o
}

// destination is where destination NAT sends packets. A missing part stays as it is in the packet.
type destination struct {
	address netip.Addr
	port    uint16
	network netip.Prefix // replaces the first bits of the address

	// If base is not 0, ports shift: base becomes first, the next port the next one, up to last, and then first again.
	base, first, last uint16
}

// parseDestination reads what follows --to-destination: "192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.1", ":80",
// ":1-65535/32768". It refuses ranges of addresses or ports: nothing predicts the kernel's choice.
func parseDestination(s string) (d destination, ok bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return destination{address: a}, true
	}
	end := strings.LastIndex(s, ":")
	if end < 0 {
		return d, false
	}
	address := strings.TrimSuffix(strings.TrimPrefix(s[:end], "["), "]")
	if a, err := netip.ParseAddr(address); err == nil {
		d.address = a
	} else if address != "" {
		return d, false
	}
	ports, base, shifts := strings.Cut(s[end+1:], "/")
	first, last, _ := strings.Cut(ports, "-")
	if shifts {
		ok = parseNumber(base, &d.base) && parseNumber(first, &d.first) && parseNumber(last, &d.last) && d.first <= d.last
	} else {
		ok = parseNumber(ports, &d.port)
	}
	if !ok {
		return destination{}, false
	}
	return d, true
}

func parseNumber(s string, port *uint16) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	*port = uint16(n)
	return err == nil && n > 0
}

// of returns where a packet to a is sent. The kernel counts ports from base, modulo 2^16, and then takes the rest of a
// division by the number of ports (nf_nat_l4proto_unique_tuple).
func (d destination) of(a netip.AddrPort) netip.AddrPort {
	address, port := a.Addr(), a.Port()
	if d.address.IsValid() {
		address = d.address
	}
	if d.network.IsValid() && d.network.Addr().Is4() == address.Is4() {
		address = state.InNetwork(address, d.network)
	}
	switch {
	case d.base != 0:
		port = d.first + uint16(int(port-d.base)%(int(d.last)-int(d.first)+1))
	case d.port != 0 && port != 0: // a ping has none
		port = d.port
	}
	return netip.AddrPortFrom(address, port)
}
