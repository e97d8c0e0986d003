// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// chains are added and removed together: one may go to another of the same delta.
type chains struct{ k *Kernel }

type (
	chainStore  = store[state.ChainKey, state.Chain]
	chainDelta  = diff.Delta[state.ChainKey, state.Chain]
	chainResult = kernel.Result[state.ChainKey]
)

func (s chains) List(ctx context.Context) (map[state.ChainKey]state.Chain, error) {
	return chainStore{rows: s.k.State.Chains}.List(ctx)
}

func (s chains) Apply(ctx context.Context, d chainDelta) chainResult {
	if ctx.Err() != nil {
		return chainStore{}.Apply(ctx, d)
	}
	held := s.held(d.Remove)
	r := chainStore{
		rows:    s.k.State.Chains,
		release: func(c state.ChainKey) error { return held[c] },
	}.Apply(ctx, chainDelta{Remove: d.Remove})
	refused := s.refused(d)
	written := chainStore{
		rows:  s.k.State.Chains,
		check: func(c state.ChainKey, _ state.Chain) error { return refused[c] },
	}.Apply(ctx, chainDelta{Update: d.Update, Add: d.Add})
	for c, err := range written.Failed {
		r.Fail(c, err)
	}
	r.Drift += written.Drift
	return r
}

// held returns the chains of rows that can't be removed because a jump or a chain that stays goes to them. A held chain
// holds those that it goes to.
func (s chains) held(rows []diff.Row[state.ChainKey, state.Chain]) map[state.ChainKey]error {
	leaving := map[state.ChainKey]bool{}
	for _, row := range rows {
		leaving[row.Key] = true
	}
	held := map[state.ChainKey]error{}
	hold := func(c state.ChainKey, by any) {
		if leaving[c] {
			held[c] = fmt.Errorf("chain %v is in use by %v", c, by)
			delete(leaving, c)
		}
	}
	for j := range s.k.State.Jumps {
		hold(state.ChainKey{Family: j.Family, Table: j.Table, Name: j.To}, j)
	}
	for again := true; again; {
		before := len(leaving)
		for c, chain := range s.k.State.Chains {
			if leaving[c] {
				continue
			}
			for _, to := range goesTo(c, chain.Rules) {
				hold(to, c)
			}
		}
		again = len(leaving) < before
	}
	return held
}

// refused returns the chains to write that need a set or chain which is neither there nor being added. A refused chain
// keeps out those that go to it.
func (s chains) refused(d chainDelta) map[state.ChainKey]error {
	beingAdded := map[state.ChainKey]state.Chain{}
	for _, c := range d.Update {
		beingAdded[c.Key] = c.New
	}
	for _, row := range d.Add {
		beingAdded[row.Key] = row.Value
	}
	refused := map[state.ChainKey]error{}
	for again := true; again; {
		again = false
		for c, chain := range beingAdded {
			if err := s.fits(c, chain, beingAdded); err != nil {
				refused[c] = err
				delete(beingAdded, c)
				again = true
			}
		}
	}
	return refused
}

func (s chains) fits(c state.ChainKey, chain state.Chain, beingAdded map[state.ChainKey]state.Chain) error {
	if err := s.k.checkRules(c, c.Table, c.Family, chain.Rules); err != nil {
		return err
	}
	for _, to := range goesTo(c, chain.Rules) {
		_, there := s.k.State.Chains[to]
		if _, added := beingAdded[to]; !there && !added {
			return missing(c, to)
		}
	}
	return nil
}

// checkRules checks the sets that rules match on and, of nftables, that the rules are ours and look into sets of their
// own family.
func (k *Kernel) checkRules(row any, t state.RuleTable, f state.Family, rules string) error {
	if err := k.hasSets(row, rules); err != nil || t.Firewall() == state.OnIPTables {
		return err
	}
	for _, line := range (state.Chain{Rules: rules}).Lines() {
		r, err := rule.Parse(f, line)
		if err != nil {
			return fmt.Errorf("%v: %w", row, err)
		}
		for _, m := range r.Matches {
			if member, is := m.(rule.Member); is && member.Set.Family() != f {
				return missing(row, member.Set.Bare())
			}
		}
	}
	return nil
}

// hasSets checks the sets that rules match on.
func (k *Kernel) hasSets(row any, rules string) error {
	words := strings.Fields(rules)
	for i, word := range words[:max(0, len(words)-1)] {
		if _, ok := k.State.Sets[state.SetName(words[i+1])]; (word == "--match-set" || word == "--map-set") && !ok {
			return missing(row, words[i+1])
		}
	}
	return nil
}

// goesTo returns the chains that the rules of a chain go to, without built-in targets.
func goesTo(from state.ChainKey, rules string) []state.ChainKey {
	builtIn := []string{"ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "MASQUERADE", "SNAT", "DNAT", "NETMAP", "SET", "LOG", "CONNMARK", "NOTRACK"}
	var targets []state.ChainKey
	for line := range strings.Lines(rules) {
		words := strings.Fields(line)
		if i := slices.Index(words, "-j"); i >= 0 && i+1 < len(words) && !slices.Contains(builtIn, words[i+1]) {
			from.Name = words[i+1]
			targets = append(targets, from)
		}
	}
	return targets
}

func (k *Kernel) checkJump(j state.JumpKey, v state.Jump) error {
	if !slices.Contains(builtInChains(j.Table), j.From) {
		return fmt.Errorf("jump %v begins in a chain that is not built in", j)
	}
	target := state.ChainKey{Family: j.Family, Table: j.Table, Name: j.To}
	if !strings.HasSuffix(" "+v.Rule, " -j "+j.To) {
		return fmt.Errorf("jump %v: its rule %q does not go there", j, v.Rule)
	}
	if _, ok := k.State.Chains[target]; !ok {
		return missing(j, target)
	}
	return k.checkRules(j, j.Table, j.Family, v.Rule)
}

func builtInChains(t state.RuleTable) []string {
	switch t.Bare() {
	case state.NAT:
		return []string{"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}
	case state.Filter:
		return []string{"INPUT", "FORWARD", "OUTPUT"}
	case state.Mangle:
		return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	}
	return nil
}
