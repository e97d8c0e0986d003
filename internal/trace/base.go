// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ephemeral is the port that a client is taken to have where its answer's way may depend on that: one that
// programs get which ask for none.
const ephemeral = 49152

// span is a part of a hook, by the priorities of the chains in it.
type span struct {
	from, to int
	rest     bool // of a connection that has met the rules of nat before
}

// IPVS takes packets to the node late, after its filter, and those of the node itself early, before it.
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

// base is a chain that the packet enters by itself.
type base struct {
	state.ChainKey
	state.Base
}

// bases are those of a part of a hook, in the kernel's order. If nobody has read them all, they are those in
// which a State has jumps.
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
	if w.where.Rules.Bases == nil {
		for _, t := range []state.RuleTable{state.Mangle, state.NAT, state.Filter} {
			add(state.ChainKey{Family: w.family, Table: t, Name: hook}, state.BuiltIn(t, hook))
		}
	}
	slices.SortFunc(list, func(a, b base) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.ChainKey.Compare(b.ChainKey))
	})
	return list
}

// ask asks the rules of a base chain, and in the end its policy.
func (w *walk) ask(b base) outcome {
	if w.where.Rules.Bases == nil {
		return w.hook(b.Table, b.Name)
	}
	o := w.chain(b.Table, b.Name, nil)
	if o.action.final() || !b.Drops {
		return o
	}
	by := place{b.Table, b.Name, 0}.String() + ", policy DROP"
	w.step(place{b.Table, b.Name, 0}.String(), "no rule decides, and the policy is DROP -> dropped, without an answer")
	return outcome{drop, by}
}

// rows are the rules of a chain, and whether it is there.
func (w *walk) rows(t state.RuleTable, name string) (state.Chain, bool) {
	k := state.ChainKey{Family: w.family, Table: t, Name: name}
	if w.where.Rules.Bases != nil {
		c, there := w.where.Rules.Chains[k]
		return c, there
	}
	c, there := w.state.Chains[k]
	return c, there
}

// through leads the packet through a part of a hook, and says whether it came out on the other side.
func (w *walk) through(hook string, part span) bool {
	for _, b := range w.bases(hook, part) {
		if b.NAT && w.packet.untracked {
			w.step(string(b.Table)+" "+b.Name, "conntrack does not know the packet -> no rule is asked")
			continue
		}
		switch o := w.ask(b); o.action {
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

// answer leads the answer of an endpoint back, where the rules of others are known: who lets packets in may
// still let none out. It tells nothing unless the answer is stopped.
func (w *walk) answer(local bool) (stopped bool) {
	if w.where.Rules.Bases == nil {
		return false
	}
	back, client := *w, w.verdict.Packet.Source
	if client.Port() == 0 {
		client = netip.AddrPortFrom(client.Addr(), ephemeral)
	}
	back.verdict = Verdict{Packet: w.verdict.Packet}
	p := &back.packet
	p.Source, p.Destination, p.established, p.mark = p.Destination, client, true, 0
	p.in, p.inUnknown = "", true
	out := func() bool {
		p.Source = w.packet.virtual
		return back.through("POSTROUTING", whole().withoutNAT())
	}
	switch all := whole().withoutNAT(); {
	case local && w.where.Node:
		return false // it does not leave the node
	case local:
		p.in, p.inUnknown = "", false
		stopped = !back.through("OUTPUT", all) || !out()
	case w.where.Node:
		stopped = !back.through("PREROUTING", all) || !back.through("INPUT", all)
	default:
		stopped = !back.through("PREROUTING", all) || !back.through("FORWARD", all) || !out()
	}
	if !stopped {
		return false
	}
	for _, s := range back.verdict.Steps {
		s.Text = "the answer: " + s.Text
		w.verdict.Steps = append(w.verdict.Steps, s)
	}
	for _, d := range back.verdict.Doubts {
		w.doubt("%s", d)
	}
	w.verdict.Fate, w.verdict.By = back.verdict.Fate, back.verdict.By
	return true
}
