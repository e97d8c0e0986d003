// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ephemeral is the client's port where an answer's path may depend on it: one from the range for programs
// that request none.
const ephemeral = 49152

// span is a part of a hook, by the priorities of the chains in it.
type span struct {
	from, to int
	rest     bool // nat's rules are skipped: the connection has met them
}

// IPVS takes packets to the node late, after its filter, and packets of the node itself early, before the
// filter.
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

// bases returns those of a part of a hook, in the kernel's order. If not all of them were read, these are the
// ones for which a State has jumps.
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

// ask evaluates the rules of a base chain, and then its policy.
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

// rows returns the rules of a chain, and whether it exists.
func (w *walk) rows(t state.RuleTable, name string) (state.Chain, bool) {
	chains := w.state.Chains
	if w.where.Rules.Bases != nil {
		chains = w.where.Rules.Chains
	}
	c, there := chains[state.ChainKey{Family: w.family, Table: t, Name: name}]
	return c, there
}

// through leads the packet through a part of a hook, and reports whether it passed.
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

// answer reports whether the answer of an endpoint is stopped, if all rules of the node are known: one that
// lets packets in may let none out. It adds steps only then.
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
