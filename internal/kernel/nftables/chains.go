// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type (
	chains struct{ c *Conn }
	jumps  struct{ c *Conn }

	chainRow   = diff.Row[state.ChainKey, state.Chain]
	chainDelta = diff.Delta[state.ChainKey, state.Chain]
	jumpDelta  = diff.Delta[state.JumpKey, state.Jump]
)

// List returns our chains and their rules. A chain of a name that we give to none is no row.
func (s chains) List(ctx context.Context) (map[state.ChainKey]state.Chain, error) {
	seen, err := s.c.look(ctx)
	if err != nil {
		return nil, err
	}
	rows := map[state.ChainKey]state.Chain{}
	for k, ch := range seen.chains {
		t, name, ok := parseChainName(k.name)
		if _, isHook := hookOf(t, name); ok && !ch.base && !isHook {
			rows[state.ChainKey{Family: k.family, Table: t, Name: name}] = state.ChainOf(ch.lines(seen.headers)...)
		}
	}
	return rows, nil
}

// List returns the jumps from base chains to ours.
func (s jumps) List(ctx context.Context) (map[state.JumpKey]state.Jump, error) {
	seen, err := s.c.look(ctx)
	if err != nil {
		return nil, err
	}
	rows := map[state.JumpKey]state.Jump{}
	for _, ch := range seen.chains {
		for k, text := range seen.jumpsOf(ch, seen.headers) {
			rows[k] = state.Jump{Rule: text}
		}
	}
	return rows, nil
}

// jumpsOf returns the jumps of a base chain of ours. What makes the chain another than ours shows in each of them: a
// rule that is no jump of ours, another policy or place, a table that is asleep.
func (t tables) jumpsOf(ch *chainAt, headers map[state.SetName]state.Set) map[state.JumpKey]string {
	table, from, ok := parseChainName(ch.name)
	want, known := hookOf(table, from)
	if !ok || !ch.base || !known {
		return nil
	}
	rows, other := map[state.JumpKey]string{}, ""
	if ch.hook != want || ch.drops || t.asleep[ch.family] {
		other = fmt.Sprintf("\n[hook %+v, drops %t, asleep %t]", ch.hook, ch.drops, t.asleep[ch.family])
	}
	for _, line := range ch.lines(headers) {
		k := state.JumpKey{Family: ch.family, Table: table, From: from, To: target(ch.family, line)}
		_, twice := rows[k]
		if k.To == "" || twice {
			other += "\n" + line
		} else {
			rows[k] = line
		}
	}
	for k, line := range rows {
		rows[k] = line + other
	}
	return rows
}

// target returns the chain to which a rule jumps.
func target(f state.Family, text string) string {
	r, err := rule.Parse(f, text)
	to, is := r.Verdict.(rule.Jump)
	if err != nil || !is {
		return ""
	}
	return string(to)
}

type (
	chainWork = kernel.Work[state.ChainKey, state.Chain]
	jumpWork  = kernel.Work[state.JumpKey, state.Jump]
)

// layout is work that is written together.
type layout struct {
	chains []chainWork
	jumps  []jumpWork
}

func layoutOf(d chainDelta, e jumpDelta) layout {
	return layout{slices.Collect(kernel.EachWork(d)), slices.Collect(kernel.EachWork(e))}
}

// Apply makes the changes of d in one transaction or, if the kernel refuses that, each by itself.
func (s chains) Apply(ctx context.Context, d chainDelta) kernel.Result[state.ChainKey] {
	return s.c.apply(ctx, layoutOf(d, jumpDelta{})).Chains
}

// Apply makes the changes of d in one transaction or, if the kernel refuses that, each by itself.
func (s jumps) Apply(ctx context.Context, d jumpDelta) kernel.Result[state.JumpKey] {
	return s.c.apply(ctx, layoutOf(chainDelta{}, d)).Jumps
}

var _ kernel.Coupled = chains{}

// SetWith writes chains and the jumps to them in one transaction.
func (s chains) SetWith(ctx context.Context, d chainDelta, other kernel.Jumps, e jumpDelta) (kernel.Rules, bool) {
	j, ok := other.(jumps)
	if !ok || j.c != s.c || len(d.Remove)+len(e.Remove) > 0 {
		return kernel.Rules{}, false
	}
	return s.c.apply(ctx, layoutOf(d, e)), true
}

func (c *Conn) apply(ctx context.Context, l layout) (r kernel.Rules) {
	seen, err := c.look(ctx)
	c.seen = nil // out of date by what is written now
	if err != nil {
		l.fail(&r, err)
		return r
	}
	w := rewriting{c: c, headers: seen.headers, have: seen.tables, result: &r}
	w.settle(&l)
	w.unpointed(&l)
	if err := w.write(ctx, l); err != nil {
		w.oneByOne(ctx, l)
	}
	return r
}

func (l layout) fail(r *kernel.Rules, err error) {
	for _, w := range l.chains {
		r.Chains.Fail(w.Key, fmt.Errorf("%s chain %v: %w", verbOf(w.Remove), w.Key, err))
	}
	for _, w := range l.jumps {
		r.Jumps.Fail(w.Key, fmt.Errorf("%s jump %v: %w", verbOf(w.Remove), w.Key, err))
	}
}

func verbOf(remove bool) string {
	if remove {
		return "removing"
	}
	return "writing"
}

// rewriting is one change of chains and jumps, on what was read right before.
type rewriting struct {
	c       *Conn
	headers map[state.SetName]state.Set
	have    tables
	result  *kernel.Rules
}

// settle counts what is not as expected, takes out what is gone already, and fails what can't be written.
func (w rewriting) settle(l *layout) {
	l.chains = slices.DeleteFunc(l.chains, func(k chainWork) bool {
		ch := w.have.chains[chainID{k.Key.Family, chainName(k.Key.Table, k.Key.Name)}]
		there := ch != nil && !ch.base
		if there != k.Expected {
			w.result.Chains.Drift++
		}
		return k.Remove && !there || w.unfit(layout{chains: []chainWork{k}})
	})
	l.jumps = slices.DeleteFunc(l.jumps, func(k jumpWork) bool {
		there := w.jumps(k.Key)[k.Key] != ""
		if there != k.Expected {
			w.result.Jumps.Drift++
		}
		return k.Remove && !there || w.unfit(layout{jumps: []jumpWork{k}})
	})
}

// unfit reports whether a row is none that nftables can have, and fails it then.
func (w rewriting) unfit(one layout) bool {
	var err error
	for _, k := range one.chains {
		if t := k.Key.Table; t.Firewall() != state.OnNFTables || t.Bare() == state.NFTables {
			err = errors.New("it is not of our table of nftables")
		}
		for _, line := range k.Value.Lines() {
			if _, bad := rule.Parse(k.Key.Family, line); bad != nil && !k.Remove {
				err = bad
			}
		}
	}
	for _, k := range one.jumps {
		_, known := hookOf(k.Key.Table, k.Key.From)
		switch {
		case k.Key.Table.Firewall() != state.OnNFTables || !known:
			err = errors.New("it begins in no base chain of our table of nftables")
		case !k.Remove && target(k.Key.Family, k.Value.Rule) != k.Key.To:
			err = fmt.Errorf("its rule %q does not go there", k.Value.Rule)
		}
	}
	if err != nil {
		one.fail(w.result, err)
	}
	return err != nil
}

func (w rewriting) jumps(k state.JumpKey) map[state.JumpKey]string {
	ch := w.have.chains[chainID{k.Family, chainName(k.Table, k.From)}]
	if ch == nil {
		return nil
	}
	return w.have.jumpsOf(ch, w.headers)
}

// unpointed fails the chains to be removed to which a chain that stays goes. The kernel would refuse all of them.
func (w rewriting) unpointed(l *layout) {
	leaving := map[chainID]bool{}
	for _, k := range l.chains {
		leaving[chainID{k.Key.Family, chainName(k.Key.Table, k.Key.Name)}] = k.Remove
	}
	for again := true; again; {
		again = false
		l.chains = slices.DeleteFunc(l.chains, func(k chainWork) bool {
			id := chainID{k.Key.Family, chainName(k.Key.Table, k.Key.Name)}
			holder := w.holder(id, leaving)
			if !k.Remove || holder == "" {
				return false
			}
			layout{chains: []chainWork{k}}.fail(w.result, fmt.Errorf("chain %s still goes to it", holder))
			delete(leaving, id)
			again = true
			return true
		})
	}
}

// holder returns a chain that goes to another one and stays.
func (w rewriting) holder(of chainID, leaving map[chainID]bool) string {
	jump := fmt.Sprintf("%d %s\n", int32(unix.NFT_JUMP), of.name)
	for id, ch := range w.have.chains {
		goes := func(r ruleAt) bool { return strings.HasSuffix(canonical(r.expressions), jump) }
		if id.family == of.family && !leaving[id] && slices.ContainsFunc(ch.rules, goes) {
			return id.name
		}
	}
	return ""
}

// write writes all in one transaction.
func (w rewriting) write(ctx context.Context, l layout) error {
	return w.c.transactIf(ctx, func() error { return w.requests(l) })
}

// oneByOne writes each row by itself, again while that makes progress, as chains need those that they go to.
func (w rewriting) oneByOne(ctx context.Context, l layout) {
	var rest []layout
	for _, k := range l.chains {
		rest = append(rest, layout{chains: []chainWork{k}})
	}
	for _, k := range l.jumps {
		rest = append(rest, layout{jumps: []jumpWork{k}})
	}
	var refused []error
	for progress := true; progress; {
		refused, progress = nil, false
		rest = slices.DeleteFunc(rest, func(one layout) bool {
			err := w.write(ctx, one)
			if err != nil {
				refused = append(refused, err)
				return false
			}
			progress = true
			if now, err := w.c.readRules(ctx); err == nil {
				w.have = now
			}
			return true
		})
	}
	for i, one := range rest {
		one.fail(w.result, refused[i])
	}
}
