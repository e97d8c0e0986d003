// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// replaceSet gives a set another header, in one transaction: nftables can't swap sets, so the rules that look into it
// are taken out and put back. Elements that the new header can hold stay. headers are those of all sets as they are; the
// set's gets the new one.
func (c *Conn) replaceSet(ctx context.Context, n state.SetName, want state.Set, headers map[state.SetName]state.Set) error {
	rules, err := c.readRules(ctx)
	if err != nil {
		return err
	}
	have := headers[n]
	rows := map[state.SetEntry]state.Entry{}
	if s, known := shapeOf(n.Family(), have.Type); known {
		if err := c.addElements(ctx, n, s, rows); err != nil {
			return err
		}
	}
	after := maps.Clone(headers)
	after[n] = want
	lookers := rules.lookingInto(n)
	for _, ch := range lookers {
		ch.lookAnew(headers, after)
	}
	x := writing{c: c, headers: after}
	work := x.kept(n, rows)
	err = c.transact(ctx, func() {
		for _, ch := range lookers {
			c.emptyChain(ch.family, ch.name)
		}
		c.deleteSet(n)
		c.makeSet(n, want)
		x.lists(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, work, func(entryWork) bool { return true })
		for _, ch := range lookers {
			for _, r := range ch.rules {
				c.ruleRequest(ch.family, ch.name, r.append)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("replacing a set of type %s (%w)", have.Type, err)
	}
	headers[n], c.counts[n] = want, len(work)
	return nil
}

// kept returns the elements that a set can hold.
func (x *writing) kept(n state.SetName, rows map[state.SetEntry]state.Entry) (work []entryWork) {
	s := x.shapeOf(n)
	for e, v := range rows {
		if s.check(e, v) == nil {
			work = append(work, entryWork{Key: e, Value: v})
		}
	}
	return work
}

// lookAnew gives rules of ours the expressions for other headers. A rule that asks what the new ones don't hold is left
// out: the chain shows that, and who wants other headers wants other rules.
func (ch *chainAt) lookAnew(before, after map[state.SetName]state.Set) {
	id := chainID{ch.family, ch.name}
	was, is := encoderOf(id, before), encoderOf(id, after)
	ch.rules = slices.DeleteFunc(ch.rules, func(r ruleAt) bool {
		_, err := is.expressionsOf(pieceIn(r.userData, textKind))
		return err != nil && r.isOurs(was)
	})
	for i, r := range ch.rules {
		if r.isOurs(was) {
			ch.rules[i].expressions, _ = is.expressionsOf(pieceIn(r.userData, textKind))
		}
	}
}

// isOurs reports whether a rule does what its text says.
func (r ruleAt) isOurs(x encoder) bool {
	want, err := x.expressionsOf(pieceIn(r.userData, textKind))
	return err == nil && canonical(want) == canonical(r.expressions)
}

// append appends a rule as it was listed.
func (r ruleAt) append(b *netlink.Requests) {
	b.Bytes(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, r.expressions)
	if len(r.userData) > 0 {
		b.Bytes(unix.NFTA_RULE_USERDATA, r.userData)
	}
}

// lookingInto returns the chains with rules that look into a set.
func (t tables) lookingInto(n state.SetName) []*chainAt {
	look := fmt.Sprintf("lookup %d=%s ", unix.NFTA_LOOKUP_SET, n.Bare())
	var list []*chainAt
	for id, ch := range t.chains {
		looks := func(r ruleAt) bool { return strings.Contains(canonical(r.expressions), look) }
		if id.family == n.Family() && slices.ContainsFunc(ch.rules, looks) {
			list = append(list, ch)
		}
	}
	return list
}
