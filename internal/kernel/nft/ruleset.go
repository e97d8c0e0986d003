// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ruleset adds to r the chains of nftables that packets of IP meet. A kernel without nftables has none. known reports
// whether a table is left out, of the family's own: one that iptables-nft shows, or our own.
func (c *Conn) Ruleset(ctx context.Context, r state.Ruleset, known func(state.Family, string) bool) error {
	l, err := c.listing(ctx)
	if err == nil {
		l.into(r, known)
	}
	return err
}

func (c *Conn) listing(ctx context.Context) (*listing, error) {
	l := &listing{}
	for _, d := range []struct {
		kind uint16
		take func(body []byte) error
	}{{unix.NFT_MSG_GETTABLE, l.takeTable}, {unix.NFT_MSG_GETCHAIN, l.takeChain}, {unix.NFT_MSG_GETRULE, l.takeRule}} {
		c.requests.Reset()
		begin(&c.requests, d.kind, unix.NFPROTO_UNSPEC)
		before := *l
		err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
			*l = before // a dump that is repeated counts once
			return d.take
		})
		if err != nil && isUnsupported(err) {
			return &listing{}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing rules of nftables: %w", err)
		}
	}
	return l, nil
}

type listing struct {
	dormant []table
	chains  []chain
	rules   []rule
}

// chain is one of the kernel's, a base chain if it has a hook.
type chain struct {
	table
	chain string
	base  state.Base
}

type rule struct {
	table
	chain       string
	handle      uint64
	expressions []byte
}

func (l *listing) takeTable(body []byte) error {
	t, err := parseTable(body)
	if err != nil {
		return err
	}
	attributes, err := netlink.ParseBody(body, header)
	if attributes.Get(unix.NFTA_TABLE_FLAGS).BigUint32()&unix.NFT_TABLE_F_DORMANT != 0 {
		l.dormant = append(l.dormant, t)
	}
	return err
}

func (l *listing) takeChain(body []byte) error {
	attributes, err := netlink.ParseBody(body, header)
	if err != nil {
		return err
	}
	hook, err := attributes.Get(unix.NFTA_CHAIN_HOOK).Nested()
	c := chain{
		table: table{body[0], attributes.Get(unix.NFTA_CHAIN_TABLE).String()},
		chain: attributes.Get(unix.NFTA_CHAIN_NAME).String(),
		base: state.Base{
			Priority: int(int32(hook.Get(unix.NFTA_HOOK_PRIORITY).BigUint32())),
			Device:   hook.Get(unix.NFTA_HOOK_DEV).String(),
			Drops:    attributes.Has(unix.NFTA_CHAIN_POLICY) && attributes.Get(unix.NFTA_CHAIN_POLICY).BigUint32() == nfDrop,
			NAT:      attributes.Get(unix.NFTA_CHAIN_TYPE).String() == "nat",
		},
	}
	if hook.Has(unix.NFTA_HOOK_HOOKNUM) {
		c.base.Hook = hookName(c.family, hook.Get(unix.NFTA_HOOK_HOOKNUM).BigUint32())
	}
	l.chains = append(l.chains, c)
	return err
}

func (l *listing) takeRule(body []byte) error {
	attributes, err := netlink.ParseBody(body, header)
	if err != nil {
		return err
	}
	l.rules = append(l.rules, rule{
		table:       table{body[0], attributes.Get(unix.NFTA_RULE_TABLE).String()},
		chain:       attributes.Get(unix.NFTA_RULE_CHAIN).String(),
		handle:      attributes.Get(unix.NFTA_RULE_HANDLE).BigUint64(),
		expressions: slices.Clone(attributes.Get(unix.NFTA_RULE_EXPRESSIONS).Value),
	})
	return nil
}

// into adds chains and rules to r, for each family that meets them.
func (l *listing) into(r state.Ruleset, known func(state.Family, string) bool) {
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		key := func(t table, name string) (state.ChainKey, bool) {
			ofFamily := t.family == netlink.FamilyNumber(f) && !known(f, t.name)
			met := ofFamily || t.family == unix.NFPROTO_INET || t.family == unix.NFPROTO_NETDEV
			k := state.ChainKey{Family: f, Table: state.RuleTable("nftables " + familyName(t.family) + " " + t.name), Name: name}
			return k, met && !slices.Contains(l.dormant, t)
		}
		for _, c := range l.chains {
			if k, met := key(c.table, c.chain); met {
				r.Chains[k] = state.Chain{}
				if c.base.Hook != "" {
					r.Bases[k] = c.base
				}
			}
		}
		lines := map[state.ChainKey][]string{}
		for _, w := range l.rules {
			if k, met := key(w.table, w.chain); met {
				lines[k] = append(lines[k], spell(f, w))
			}
		}
		for k, list := range lines {
			r.Chains[k] = state.ChainOf(list...)
		}
	}
}

func familyName(protocol uint8) string {
	return map[uint8]string{
		unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet", unix.NFPROTO_NETDEV: "netdev",
	}[protocol]
}

// hookName is empty for a hook that no packet to a Service meets.
func hookName(protocol uint8, n uint32) string {
	names := []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "INGRESS"}
	if protocol == unix.NFPROTO_NETDEV {
		names = []string{"INGRESS"}
	}
	if int(n) >= len(names) {
		return ""
	}
	return names[n]
}
