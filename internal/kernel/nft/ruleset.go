// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ruleset adds to r the chains of nftables that packets of IP meet. A kernel without nftables has none.
//
// known says whether a table is one that r has already, as the tools of iptables that work with nftables show
// it.
func (c *Conn) Ruleset(ctx context.Context, r state.Ruleset, known func(state.Family, string) bool) error {
	l, err := c.listing(ctx)
	if err == nil {
		l.into(r, known)
	}
	return err
}

// listing asks for all tables, chains and rules, of any family.
func (c *Conn) listing(ctx context.Context) (*listing, error) {
	l := &listing{}
	for _, d := range []dump{{unix.NFT_MSG_GETTABLE, l.takeTable}, {unix.NFT_MSG_GETCHAIN, l.takeChain}, {unix.NFT_MSG_GETRULE, l.takeRule}} {
		c.requests.Reset()
		begin(&c.requests, d.kind, unix.NFPROTO_UNSPEC)
		before := *l
		err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
			*l = before // of a dump that is repeated nothing counts twice
			return d.take
		})
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return &listing{}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing rules of nftables: %w", err)
		}
	}
	return l, nil
}

type dump struct {
	kind uint16
	take func(body []byte) error
}

// listing is what the kernel told of tables, chains and rules.
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

// rule is one of the kernel's.
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
	attributes, err := netlink.ParseAttributes(body[header:])
	if a, there := find(attributes, unix.NFTA_TABLE_FLAGS); there && a.BigUint32()&unix.NFT_TABLE_F_DORMANT != 0 {
		l.dormant = append(l.dormant, t)
	}
	return err
}

func (l *listing) takeChain(body []byte) error {
	attributes, err := attributesOf(body)
	if err != nil {
		return err
	}
	c := chain{table: table{family: body[0]}}
	var hook []netlink.Attribute
	for _, a := range attributes {
		switch a.Type {
		case unix.NFTA_CHAIN_TABLE:
			c.name = a.String()
		case unix.NFTA_CHAIN_NAME:
			c.chain = a.String()
		case unix.NFTA_CHAIN_POLICY:
			c.base.Drops = a.BigUint32() == nfDrop
		case unix.NFTA_CHAIN_TYPE:
			c.base.NAT = a.String() == "nat"
		case unix.NFTA_CHAIN_HOOK:
			hook, err = a.Nested()
		}
	}
	for _, a := range hook {
		switch a.Type {
		case unix.NFTA_HOOK_HOOKNUM:
			c.base.Hook = hookName(c.family, a.BigUint32())
		case unix.NFTA_HOOK_PRIORITY:
			c.base.Priority = int(int32(a.BigUint32()))
		case unix.NFTA_HOOK_DEV:
			c.base.Device = a.String()
		}
	}
	l.chains = append(l.chains, c)
	return err
}

func (l *listing) takeRule(body []byte) error {
	attributes, err := attributesOf(body)
	if err != nil {
		return err
	}
	r := rule{table: table{family: body[0]}}
	for _, a := range attributes {
		switch a.Type {
		case unix.NFTA_RULE_TABLE:
			r.name = a.String()
		case unix.NFTA_RULE_CHAIN:
			r.chain = a.String()
		case unix.NFTA_RULE_HANDLE:
			r.handle = a.BigUint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			r.expressions = slices.Clone(a.Value)
		}
	}
	l.rules = append(l.rules, r)
	return nil
}

// into writes what was told, for each family that meets it.
func (l *listing) into(r state.Ruleset, known func(state.Family, string) bool) {
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		key := func(t table, name string) (state.ChainKey, bool) {
			proper := t.family == protocolOf(f)
			met := proper && !known(f, t.name) || t.family == unix.NFPROTO_INET || t.family == unix.NFPROTO_NETDEV
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

func attributesOf(body []byte) ([]netlink.Attribute, error) {
	if len(body) < header {
		return nil, fmt.Errorf("nftables message of %d bytes", len(body))
	}
	return netlink.ParseAttributes(body[header:])
}

func find(attributes []netlink.Attribute, kind uint16) (netlink.Attribute, bool) {
	i := slices.IndexFunc(attributes, func(a netlink.Attribute) bool { return a.Type == kind })
	if i < 0 {
		return netlink.Attribute{}, false
	}
	return attributes[i], true
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
