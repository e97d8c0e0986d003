// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// action is what a rule, or all rules of a hook, do with the packet.
type action uint8

const (
	goOn       action = iota // to the next rule
	leave                    // to the rule after the jump to this chain
	accept                   // to the next table
	masquerade               // that too, with another source
	drop
	reject
)

// final says whether no further rule of the table is asked.
func (a action) final() bool { return a >= accept }

type outcome struct {
	action action
	by     string // the rule; of a final action
}

// hook asks the jumps from a built-in chain. The rows do not tell in which order they are; this is the one in
// which kube-ipvs makes them, each above the one before it.
func (w *walk) hook(table state.RuleTable, builtIn string) outcome {
	jumps := w.jumps(table, builtIn)
	for i, k := range jumps {
		o := w.jump(k)
		if !o.action.final() {
			continue
		}
		w.checkOrder(o, jumps[i], jumps[i+1:])
		return o
	}
	return outcome{}
}

func (w *walk) jumps(table state.RuleTable, builtIn string) []state.JumpKey {
	var keys []state.JumpKey
	for k := range maps.Keys(w.state.Jumps) {
		if k.Family == w.family && k.Table == table && k.From == builtIn {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b state.JumpKey) int { return b.Compare(a) })
	return keys
}

// jump asks the rule of a jump, or, where somebody made several that differ, each of them.
func (w *walk) jump(k state.JumpKey) outcome {
	for line := range strings.SplitSeq(w.state.Jumps[k].Rule, "\n") {
		if o := w.rule(place{k.Table, k.From, 0}, line, nil); o.action.final() {
			return o
		}
	}
	return outcome{}
}

// checkOrder doubts an outcome that would be another one if a jump further down came first.
func (w *walk) checkOrder(o outcome, by state.JumpKey, others []state.JumpKey) {
	for _, k := range others {
		one := *w
		one.verdict = Verdict{}
		if other := one.jump(k); other.action.final() && other.action != o.action {
			w.doubt("%s %s: that %s comes before %s decides here, and the rows don't tell", k.Table, k.From, by.To, k.To)
		}
	}
}

// place is where a rule is. Number 0 is a jump, whose number the rows don't tell.
type place struct {
	table  state.RuleTable
	chain  string
	number int
}

func (p place) String() string {
	if p.number == 0 {
		return fmt.Sprintf("%s %s", p.table, p.chain)
	}
	return fmt.Sprintf("%s %s %d", p.table, p.chain, p.number)
}

// chain asks the rules of a chain. above are the chains that led to it.
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

// rule asks one rule.
func (w *walk) rule(at place, line string, above []string) outcome {
	if *w.budget--; *w.budget < 0 {
		w.doubt("there are too many rules to look at; the rest counts as not matching")
		return outcome{}
	}
	r := w.parsed(line)
	words, service, unknown, matched := w.matches(r)
	if !matched {
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
	return w.apply(at, line, r.target, told{words, above})
}

// told is what is known when a rule has matched.
type told struct {
	words []string // what it matched by
	above []string // the chains that led to it
}

func (w *walk) parsed(line string) rule {
	r, ok := w.rules[line]
	if !ok {
		r = parseRule(line)
		w.rules[line] = r
	}
	return r
}

// matters reports whether anything would be different if a rule matched.
func (w *walk) matters(at place, line string, r rule, above []string) bool {
	one := *w
	one.verdict = Verdict{}
	o := one.apply(at, line, r.target, told{nil, above})
	return o.action != goOn || one.packet != w.packet || len(one.verdict.Doubts) > 0
}

// matches says whether all matches of a rule match, as far as they are known. One that certainly does not is
// enough to say no, also if others are not understood.
func (w *walk) matches(r rule) (words []string, service string, unknown []string, matched bool) {
	unknown, matched = slices.Clip(r.unknown), true
	var assumed []string
	for _, m := range r.matches {
		f := m(w)
		if f.answer == no && f.assumes == "" {
			return nil, "", nil, false
		}
		switch f.answer {
		case no:
			matched = false
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
	return words, service, unknown, matched
}

// apply does what a rule that matches says.
func (w *walk) apply(at place, line string, t target, because told) outcome {
	say := func(format string, args ...any) {
		text := cmp.Or(strings.Join(because.words, ", and "), "every packet here") + " -> " + fmt.Sprintf(format, args...)
		w.verdict.Steps = append(w.verdict.Steps, Step{At: at.String(), Text: text, Rule: line})
	}
	switch t.name {
	case "": // only counts
		return outcome{}
	case "RETURN":
		say("leaves the chain")
		return outcome{action: leave}
	case "ACCEPT":
		say("no more of %s", at.table)
		return outcome{accept, at.String()}
	case "DROP":
		say("dropped, without an answer")
		return outcome{drop, at.String()}
	case "REJECT":
		say("refused (%s)", t.with)
		return outcome{reject, at.String()}
	case "MASQUERADE":
		say("masqueraded: the source becomes an address of this node")
		return outcome{masquerade, at.String()}
	case "SNAT":
		say("the source becomes %s", t.with)
		return outcome{masquerade, at.String()}
	case "DNAT", "REDIRECT", "NETMAP":
		return w.redirect(at, t, say)
	case "MARK":
		w.packet.mark = w.packet.mark&^t.mask ^ t.mark
		say("mark %#x", w.packet.mark)
		return outcome{}
	case "SET":
		if found := w.mapped(t); found != "" {
			because.words = append(because.words, found)
			say("mark %#x", w.packet.mark)
		}
		return outcome{}
	}
	if state.Aside(t.name) {
		return outcome{}
	}
	return w.enter(at, t, because, say)
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
	return outcome{accept, at.String()}
}

// mapped gives the packet the mark that a set has for it, and says by which entry. The set tells more exactly
// than others whose packet it is.
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
func (w *walk) enter(at place, t target, because told, say func(string, ...any)) outcome {
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
		say("to %s", t.name)
	}
	o := w.chain(at.table, t.name, because.above)
	if !o.action.final() && t.leaves {
		return outcome{action: leave}
	}
	return o
}
