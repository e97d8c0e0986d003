// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// replaceSet gives a set another header, in one transaction: nftables can't swap sets, so the rules that look into it
// are taken out and put back. Elements that the new header can hold stay.
func (c *Conn) replaceSet(ctx context.Context, n state.SetName, have, want state.Set) error {
	rules, err := c.readRules(ctx)
	if err != nil {
		return err
	}
	rows := map[state.SetEntry]state.Entry{}
	if s, known := shapeOf(n.Family(), have.Type); known {
		if err := c.addElements(ctx, n, s, rows); err != nil {
			return err
		}
	}
	x := writing{c: c, headers: map[state.SetName]state.Set{n: want}}
	s, _ := shapeOf(n.Family(), want.Type)
	var work []entryWork
	for e, v := range rows {
		if s.check(e, v) == nil {
			work = append(work, entryWork{key: e, value: v})
		}
	}
	lookers := rules.lookingInto(n)
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
	return nil
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
