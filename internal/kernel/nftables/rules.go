// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// textKind is the kind of the piece of a rule's user data that has its text. nft prints the pieces of kind commentKind
// and passes over all others.
const textKind = 0x4b

// longestText is what fits into the user data beside kind, length and the final NUL.
const longestText = unix.NFT_USERDATA_MAXLEN - 3

// hook is where the packets of a base chain come from.
type hook struct {
	number   uint32
	priority int32
	kind     string // filter or nat
}

// hookOf returns the hook of a base chain; false: we have none of that name.
func hookOf(t state.RuleTable, from string) (hook, bool) {
	numbers := map[string]uint32{"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
	base := state.BuiltIn(t.On(state.OnNFTables), from)
	h := hook{kind: "filter", priority: int32(base.Priority)}
	n, known := numbers[from]
	h.number = n
	if base.NAT {
		h.kind = "nat"
		known = known && from != "FORWARD"
	}
	return h, known
}

// chainAt is a chain as the kernel lists it.
type chainAt struct {
	family state.Family
	name   string
	base   bool
	hook   hook
	drops  bool
	rules  []ruleAt
}

// ruleAt is a rule as the kernel lists it.
type ruleAt struct {
	expressions, userData []byte
}

// tables are our chains and rules, as the kernel lists them.
type tables struct {
	chains map[chainID]*chainAt
	asleep map[state.Family]bool
}

type chainID struct {
	family state.Family
	name   string
}

// snapshot is all that the kernel lists of our tables, but for elements.
type snapshot struct {
	headers map[state.SetName]state.Set
	tables
}

// has reports whether there are sets or chains of a family.
func (s snapshot) has(f state.Family) bool {
	for n := range s.headers {
		if n.Family() == f {
			return true
		}
	}
	for k := range s.chains {
		if k.family == f {
			return true
		}
	}
	return false
}

// look reads our tables, unless this round has done so and nothing has been written since.
func (c *Conn) look(ctx context.Context) (snapshot, error) {
	round := kernel.RoundOf(ctx)
	if c.seen != nil && round != nil && round == c.round {
		return *c.seen, nil
	}
	s, err := c.read(ctx)
	if c.seen = nil; err == nil {
		c.seen, c.round = &s, round
	}
	return s, err
}

func (c *Conn) read(ctx context.Context) (s snapshot, err error) {
	if s.headers, err = c.headers(ctx); err != nil {
		return s, fmt.Errorf("listing sets of nftables: %w", err)
	}
	s.tables, err = c.readRules(ctx)
	return s, err
}

// readRules reads our chains with their rules.
func (c *Conn) readRules(ctx context.Context) (tables, error) {
	t := tables{chains: map[chainID]*chainAt{}, asleep: map[state.Family]bool{}}
	err := c.dump(ctx, unix.NFT_MSG_GETTABLE, unix.NFTA_TABLE_NAME, func() func(state.Family, netlink.Attributes) error {
		clear(t.asleep)
		return func(f state.Family, a netlink.Attributes) error {
			t.asleep[f] = a.Get(unix.NFTA_TABLE_FLAGS).BigUint32()&unix.NFT_TABLE_F_DORMANT != 0
			return nil
		}
	})
	if err != nil {
		return t, fmt.Errorf("listing tables of nftables: %w", err)
	}
	err = c.dump(ctx, unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, func() func(state.Family, netlink.Attributes) error {
		clear(t.chains)
		return t.addChain
	})
	if err != nil {
		return t, fmt.Errorf("listing chains of nftables: %w", err)
	}
	for _, f := range c.families {
		err = c.dumpOf(ctx, unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, netlink.FamilyNumber(f), func() func(state.Family, netlink.Attributes) error {
			t.forgetRules(f)
			return t.addRule
		})
		if err != nil {
			return t, fmt.Errorf("listing rules of nftables of %v: %w", f, err)
		}
	}
	return t, nil
}

func (t tables) forgetRules(f state.Family) {
	for id, ch := range t.chains {
		if id.family == f {
			ch.rules = nil
		}
	}
}

func (t tables) addChain(f state.Family, a netlink.Attributes) error {
	inside, err := a.Get(unix.NFTA_CHAIN_HOOK).Nested()
	ch := &chainAt{family: f, name: a.Get(unix.NFTA_CHAIN_NAME).String(), base: inside.Has(unix.NFTA_HOOK_HOOKNUM)}
	if ch.base {
		ch.hook = hook{
			number:   inside.Get(unix.NFTA_HOOK_HOOKNUM).BigUint32(),
			priority: int32(inside.Get(unix.NFTA_HOOK_PRIORITY).BigUint32()),
			kind:     a.Get(unix.NFTA_CHAIN_TYPE).String(),
		}
		ch.drops = a.Has(unix.NFTA_CHAIN_POLICY) && a.Get(unix.NFTA_CHAIN_POLICY).BigUint32() == nfDrop
	}
	t.chains[chainID{f, ch.name}] = ch
	return err
}

func (t tables) addRule(f state.Family, a netlink.Attributes) error {
	ch := t.chains[chainID{f, a.Get(unix.NFTA_RULE_CHAIN).String()}]
	if ch == nil {
		return netlink.ErrInterrupted // it was made since the chains were listed
	}
	ch.rules = append(ch.rules, ruleAt{
		expressions: slices.Clone(a.Get(unix.NFTA_RULE_EXPRESSIONS).Value),
		userData:    slices.Clone(a.Get(unix.NFTA_RULE_USERDATA).Value),
	})
	return nil
}

// text returns a rule's text if its expressions are those of the text, and what it is made of if they are not.
func (r ruleAt) text(x encoder) string {
	if r.isOurs(x) {
		return pieceIn(r.userData, textKind)
	}
	list := strings.TrimSuffix(canonical(r.expressions), "\n")
	return "[" + strings.ReplaceAll(list, "\n", "; ") + "]"
}

// expressionsOf returns the expressions of a rule.
func (x encoder) expressionsOf(text string) ([]byte, error) {
	r, err := rule.Parse(x.family, text)
	if err != nil {
		return nil, err
	}
	var b netlink.Requests
	b.Begin(0, 0)
	x.b = &b
	err = x.rule(r)
	return b.Body(0), err
}

// lines returns the text of all rules of a chain.
func (ch *chainAt) lines(headers map[state.SetName]state.Set) []string {
	x := encoderOf(chainID{ch.family, ch.name}, headers)
	var list []string
	for _, r := range ch.rules {
		list = append(list, r.text(x))
	}
	return list
}

// makeChain makes a chain if it is missing. A base chain gets its policy back.
func (c *Conn) makeChain(f state.Family, name string, h *hook) {
	c.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, f)
	b := &c.requests
	b.String(unix.NFTA_CHAIN_TABLE, c.table)
	b.String(unix.NFTA_CHAIN_NAME, name)
	if h == nil {
		return
	}
	b.Nest(unix.NFTA_CHAIN_HOOK, func() {
		b.BigUint32(unix.NFTA_HOOK_HOOKNUM, h.number)
		b.BigUint32(unix.NFTA_HOOK_PRIORITY, uint32(h.priority))
	})
	b.BigUint32(unix.NFTA_CHAIN_POLICY, nfAccept)
	b.String(unix.NFTA_CHAIN_TYPE, h.kind)
}

func (c *Conn) deleteChain(f state.Family, name string) {
	c.begin(unix.NFT_MSG_DELCHAIN, 0, f)
	c.requests.String(unix.NFTA_CHAIN_TABLE, c.table)
	c.requests.String(unix.NFTA_CHAIN_NAME, name)
}

// emptyChain deletes all rules of a chain.
func (c *Conn) emptyChain(f state.Family, name string) {
	c.begin(unix.NFT_MSG_DELRULE, 0, f)
	c.requests.String(unix.NFTA_RULE_TABLE, c.table)
	c.requests.String(unix.NFTA_RULE_CHAIN, name)
}

// appendRule adds a rule at the end of a chain.
func (c *Conn) appendRule(x encoder, chain, text string, r rule.Rule) error {
	if len(text) > longestText {
		return fmt.Errorf("rule %q has %d bytes, nftables keeps %d", text, len(text), longestText)
	}
	var err error
	c.ruleRequest(x.family, chain, func(b *netlink.Requests) {
		x.b = b
		b.Nest(unix.NFTA_RULE_EXPRESSIONS, func() { err = x.rule(r) })
		b.Bytes(unix.NFTA_RULE_USERDATA, notesOf(text, r))
	})
	return err
}

func (c *Conn) ruleRequest(f state.Family, chain string, inside func(*netlink.Requests)) {
	c.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, f)
	c.requests.String(unix.NFTA_RULE_TABLE, c.table)
	c.requests.String(unix.NFTA_RULE_CHAIN, chain)
	inside(&c.requests)
}

// notesOf is a rule's text and, if there is room beside it, its comment.
func notesOf(text string, r rule.Rule) []byte {
	data := piece(nil, textKind, text)
	if about := r.Comment(text); about != "" {
		return append(piece(nil, commentKind, about), data...)
	}
	return data
}
