// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// packet is the packet at some point of its path.
type packet struct {
	Packet
	mark        uint32
	in          string // the interface that it came by; empty: none
	inUnknown   bool
	untracked   bool           // conntrack does not know it
	established bool           // it is an answer
	virtual     netip.AddrPort // its destination before IPVS took it; zero: IPVS did not
	masqueraded bool
	redirected  bool // destination NAT has changed it
}

// walk is one packet on its path through the tables.
type walk struct {
	state   state.State
	where   Where
	family  state.Family
	packet  packet
	verdict Verdict
	base    string          // the base chain whose rules are evaluated
	rules   map[string]rule // those parsed before
	budget  *int            // how many more rules may be evaluated
}

// maxRules ends endless walks. The kernel refuses chains in a circle, but a State from a file may have them.
const maxRules = 1 << 18

func newWalk(s state.State, p Packet, where Where) *walk {
	budget := maxRules
	p.Source, p.Destination = unmap(p.Source), unmap(p.Destination)
	w := &walk{
		state:  s,
		where:  where,
		family: state.FamilyOf(p.Destination.Addr()),
		packet: packet{Packet: p, in: where.Interface, inUnknown: where.Interface == "" && !where.Node},
		rules:  map[string]rule{},
		budget: &budget,
	}
	if where.Node {
		w.packet.in = ""
		w.pickSource()
	}
	w.verdict.Packet, w.verdict.Node = w.packet.Packet, where.Node
	w.checkTables()
	return w
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// checkTables adds a doubt for each table that was not read. Sysctls and the device do not count: their defaults do.
func (w *walk) checkTables() {
	for _, t := range w.state.Missing() {
		if t != state.Sysctls && t != state.Links {
			w.doubt("the %s were not read, and count as none", t.Title())
		}
	}
	slices.Sort(w.verdict.Doubts)
}

// arrive is the path of a packet from elsewhere.
func (w *walk) arrive() {
	source := w.packet.Source.Addr()
	// The kernel takes such a source for a forged one; for IPv6 only that of loopback.
	if _, own := w.local(source); source.IsLoopback() || own && w.family == state.IPv4 {
		w.step("routing", "%v is this node's own address, but the packet comes from elsewhere -> dropped", source)
		w.end(Dropped, "routing")
		return
	}
	if !w.through("INGRESS", whole()) || !w.through("PREROUTING", whole()) {
		return
	}
	if why, local := w.local(w.packet.Destination.Addr()); local {
		w.step("routing", "%s -> the packet is for this node", why)
		w.deliver()
		return
	}
	w.forward()
}

// deliver is the path of a packet that has come to an address of the node. IPVS takes it after the filter.
func (w *walk) deliver() {
	if !w.through("INPUT", before(ipvsInput)) || w.schedule() {
		return
	}
	if w.through("INPUT", after(ipvsInput)) {
		w.end(Host, "routing")
	}
}

func (w *walk) forward() {
	to := w.packet.Destination.Addr()
	if w.family == state.IPv4 && w.state.Sysctls["net/ipv4/ip_forward"] == "0" ||
		w.family == state.IPv6 && w.state.Sysctls["net/ipv6/conf/all/forwarding"] == "0" {
		w.step("routing", "%v is no address of this node, which does not forward (sysctl) -> dropped", to)
		w.end(Dropped, "routing")
		return
	}
	w.step("routing", "%v is no address of this node -> to be forwarded", to)
	if w.through("FORWARD", whole()) && w.through("POSTROUTING", whole()) {
		w.end(Forwarded, "routing")
	}
}

// send is the path of a packet that the node itself sends. IPVS takes it before the filter.
func (w *walk) send() {
	if !w.through("OUTPUT", before(ipvsOutput)) || w.schedule() {
		return
	}
	if !w.through("OUTPUT", after(ipvsOutput)) || !w.through("POSTROUTING", whole()) {
		return
	}
	why, local := w.local(w.packet.Destination.Addr())
	if !local {
		w.end(Forwarded, "routing")
		return
	}
	w.step("routing", "%s -> the packet comes back by lo", why)
	w.packet.in = "lo"
	// A connection meets the rules of nat once.
	if w.through("PREROUTING", whole().withoutNAT()) {
		w.deliver()
	}
}

func (w *walk) end(f Fate, by string) {
	w.verdict.Fate, w.verdict.By = f, by
	w.verdict.Masqueraded = w.packet.masqueraded
	if w.verdict.Service == "" {
		w.verdict.Service = w.named(w.verdict.Packet.Destination)
	}
}

func (w *walk) step(at, format string, args ...any) {
	w.verdict.Steps = append(w.verdict.Steps, Step{At: at, Text: fmt.Sprintf(format, args...)})
}

func (w *walk) doubt(format string, args ...any) {
	if d := fmt.Sprintf(format, args...); !slices.Contains(w.verdict.Doubts, d) {
		w.verdict.Doubts = append(w.verdict.Doubts, d)
	}
}

// local reports whether a is an address of the node, and of which kind.
func (w *walk) local(a netip.Addr) (why string, local bool) {
	b, bound := w.state.Addresses[state.Address{Addr: a}]
	switch {
	case bound && b.Means == state.Routed:
		return fmt.Sprintf("%v is routed to %s", a, state.DummyLink), true
	case bound:
		return fmt.Sprintf("%v is on %s", a, state.DummyLink), true
	case a.IsLoopback():
		return fmt.Sprintf("%v is on lo", a), true
	case slices.Contains(w.where.Addresses, a):
		return fmt.Sprintf("%v is an address of this node", a), true
	}
	return "", false
}

// pickSource gives the node's own packet the source that the kernel would pick: to a local address that address, unless
// it is routed with another source. An IPv6 route without a source leaves it open.
func (w *walk) pickSource() {
	to := w.packet.Destination.Addr()
	if w.packet.Source.Addr().IsValid() {
		return
	}
	pick := func(a netip.Addr) { w.packet.Source = netip.AddrPortFrom(a, w.packet.Source.Port()) }
	why, local := w.local(to)
	b := w.state.Addresses[state.Address{Addr: to}]
	switch routed := b.Means == state.Routed; {
	case routed && b.Source.IsValid():
		pick(b.Source)
		w.step("routing", "%s from %v -> that is the source", why, b.Source)
		return
	case local && !(routed && w.family == state.IPv6):
		pick(to)
		w.step("routing", "%s -> it is the source too", why)
		return
	}
	sameFamily := func(a netip.Addr) bool { return state.FamilyOf(a) == w.family && !a.IsLoopback() }
	if i := slices.IndexFunc(w.where.Addresses, sameFamily); i >= 0 {
		pick(w.where.Addresses[i])
		w.doubt("the source is taken to be %v; the kernel picks it by the route to %v", w.where.Addresses[i], to)
		return
	}
	w.doubt("the source that the kernel picks is not known; it counts as in no network")
}

// ephemeral is the client's port where an answer's path may depend on it: one from the range for programs that request
// none.
const ephemeral = 49152

// span is a part of a hook, by the priorities of the chains in it.
type span struct {
	from, to int
	rest     bool // nat's rules are skipped: the connection has met them
}

// IPVS takes packets to the node late, after its filter, and packets of the node itself early, before the filter.
const (
	ipvsInput  = 99
	ipvsOutput = -98
)

func whole() span          { return span{math.MinInt, math.MaxInt, false} }
func before(ipvs int) span { return span{math.MinInt, ipvs - 1, false} }
func after(ipvs int) span  { return span{ipvs + 1, math.MaxInt, false} }

func (s span) withoutNAT() span {
	s.rest = true
	return s
}

// base is a base chain: a hook sends the packet to it.
type base struct {
	state.ChainKey
	state.Base
}

// bases returns those of a part of a hook, in the kernel's order. Ours of nftables are in the State. So are those of
// iptables, if the rules of the whole node were not read.
func (w *walk) bases(hook string, part span) []base {
	var list []base
	add := func(k state.ChainKey, b state.Base) {
		in := hook != "INGRESS" || b.Device != "" && b.Device == w.packet.in
		if k.Family == w.family && b.Hook == hook && in && part.from <= b.Priority && b.Priority <= part.to && !(b.NAT && part.rest) {
			list = append(list, base{k, b})
		}
	}
	for k, b := range w.where.Rules.Bases {
		add(k, b)
	}
	for _, t := range []state.RuleTable{state.Mangle, state.NAT, state.Filter} {
		for _, firewall := range state.Firewalls() {
			if t := t.On(firewall); w.inState(t) {
				add(state.ChainKey{Family: w.family, Table: t, Name: hook}, state.BuiltIn(t, hook))
			}
		}
	}
	slices.SortFunc(list, func(a, b base) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.ChainKey.Compare(b.ChainKey))
	})
	return list
}

// inState reports whether the chains of a table are those of the State, and not those of the whole node.
func (w *walk) inState(t state.RuleTable) bool {
	return w.where.Rules.Bases == nil || t.Firewall() == state.OnNFTables
}

// ask evaluates the rules of a base chain, and then its policy.
func (w *walk) ask(b base) outcome {
	w.base = place{b.Table, b.Name, 0}.String()
	if w.inState(b.Table) {
		return w.hook(b.Table, b.Name)
	}
	o := w.chain(b.Table, b.Name, nil)
	if o.action.final() || !b.Drops {
		return o
	}
	w.step(w.base, "no rule decides, and the policy is DROP -> dropped, without an answer")
	return outcome{action: drop, by: w.base + ", policy DROP"}
}

// rows returns the rules of a chain, and whether it exists.
func (w *walk) rows(t state.RuleTable, name string) (state.Chain, bool) {
	chains := w.where.Rules.Chains
	if w.inState(t) {
		chains = w.state.Chains
	}
	c, there := chains[state.ChainKey{Family: w.family, Table: t, Name: name}]
	return c, there
}

// through leads the packet through a part of a hook, and reports whether it passed. A connection is translated once:
// the chains of nat that come after the one that did it are not asked.
func (w *walk) through(hook string, part span) bool {
	settled := false
	for _, b := range w.bases(hook, part) {
		if b.NAT && settled {
			continue
		}
		if b.NAT && w.packet.untracked {
			w.step(place{b.Table, b.Name, 0}.String(), "conntrack does not know the packet -> no rule is asked")
			continue
		}
		o := w.ask(b)
		settled = settled || o.settles
		switch o.action {
		case drop:
			w.end(Dropped, o.by)
			return false
		case reject:
			w.end(Refused, o.by)
			return false
		case masquerade:
			w.packet.masqueraded = true
		}
	}
	return true
}

// answer reports whether the answer of an endpoint is stopped, if all rules of the node are known: one that lets
// packets in may let none out. It adds steps only then.
func (w *walk) answer(local bool) (stopped bool) {
	if w.where.Rules.Bases == nil || local && w.where.Node { // the answer does not leave the node
		return false
	}
	back, client := *w, w.verdict.Packet.Source
	if client.Port() == 0 {
		client = netip.AddrPortFrom(client.Addr(), ephemeral)
	}
	back.verdict = Verdict{Packet: w.verdict.Packet}
	p := &back.packet
	p.Source, p.Destination, p.established, p.mark = p.Destination, client, true, 0
	p.in, p.inUnknown = "", !local
	hooks := []string{"PREROUTING", "FORWARD", "POSTROUTING"}
	switch {
	case local:
		hooks = []string{"OUTPUT", "POSTROUTING"}
	case w.where.Node:
		hooks = []string{"PREROUTING", "INPUT"}
	}
	for _, hook := range hooks {
		if hook == "POSTROUTING" {
			p.Source = w.packet.virtual
		}
		if !back.through(hook, whole().withoutNAT()) {
			w.takeAnswer(back.verdict)
			return true
		}
	}
	return false
}

// takeAnswer takes over the verdict on an answer.
func (w *walk) takeAnswer(v Verdict) {
	for _, s := range v.Steps {
		s.Text = "the answer: " + s.Text
		w.verdict.Steps = append(w.verdict.Steps, s)
	}
	for _, d := range v.Doubts {
		w.doubt("%s", d)
	}
	w.verdict.Fate, w.verdict.By = v.Fate, v.By
}
