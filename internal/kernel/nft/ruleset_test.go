// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// expression is one of a rule, as it is sent to the kernel and as the kernel sends it.
type expression struct {
	name string
	data func(*netlink.Requests)
}

func number(b *netlink.Requests, kind uint16, n uint32) { b.BigUint32(kind, n) }

func meta(key uint32) expression {
	return expression{"meta", func(b *netlink.Requests) { number(b, unix.NFTA_META_DREG, 1); number(b, unix.NFTA_META_KEY, key) }}
}

func ct(key uint32) expression {
	return expression{"ct", func(b *netlink.Requests) { number(b, unix.NFTA_CT_DREG, 1); number(b, unix.NFTA_CT_KEY, key) }}
}

func payload(base, offset, length uint32) expression {
	return expression{"payload", func(b *netlink.Requests) {
		number(b, unix.NFTA_PAYLOAD_DREG, 1)
		number(b, unix.NFTA_PAYLOAD_BASE, base)
		number(b, unix.NFTA_PAYLOAD_OFFSET, offset)
		number(b, unix.NFTA_PAYLOAD_LEN, length)
	}}
}

func compare(op uint32, with ...byte) expression {
	return expression{"cmp", func(b *netlink.Requests) {
		number(b, unix.NFTA_CMP_SREG, 1)
		number(b, unix.NFTA_CMP_OP, op)
		b.Nest(unix.NFTA_CMP_DATA, func() { b.Bytes(unix.NFTA_DATA_VALUE, with) })
	}}
}

func masked(mask ...byte) expression {
	return expression{"bitwise", func(b *netlink.Requests) {
		number(b, unix.NFTA_BITWISE_SREG, 1)
		number(b, unix.NFTA_BITWISE_DREG, 1)
		number(b, unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		b.Nest(unix.NFTA_BITWISE_MASK, func() { b.Bytes(unix.NFTA_DATA_VALUE, mask) })
		b.Nest(unix.NFTA_BITWISE_XOR, func() { b.Bytes(unix.NFTA_DATA_VALUE, make([]byte, len(mask))) })
	}}
}

func verdict(code int32, chain string) expression {
	return expression{"immediate", func(b *netlink.Requests) {
		number(b, unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		b.Nest(unix.NFTA_IMMEDIATE_DATA, func() {
			b.Nest(unix.NFTA_DATA_VERDICT, func() {
				number(b, unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					b.String(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	}}
}

func extended(kind, name string) expression {
	return expression{kind, func(b *netlink.Requests) { b.String(unix.NFTA_TARGET_NAME, name) }} // a match has it at the same place
}

func plain(name string) expression { return expression{name, func(*netlink.Requests) {}} }

func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func expressions(b *netlink.Requests, list []expression) {
	b.Nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, e := range list {
			b.Nest(unix.NFTA_LIST_ELEM, func() {
				b.String(unix.NFTA_EXPR_NAME, e.name)
				b.Nest(unix.NFTA_EXPR_DATA, func() { e.data(b) })
			})
		}
	})
}

func TestRulesOfNftablesAreSpelledAsThoseOfIptables(t *testing.T) {
	const eq, neq = unix.NFT_CMP_EQ, unix.NFT_CMP_NEQ
	const network, transport = 1, 2
	drop := verdict(nfDrop, "")
	for want, list := range map[string][]expression{
		"-j DROP":                         {plain("counter"), drop},
		"-i lo -j ACCEPT":                 {meta(unix.NFT_META_IIFNAME), compare(eq, append([]byte("lo"), make([]byte, 14)...)...), verdict(nfAccept, "")},
		"-i veth+ -j DROP":                {meta(unix.NFT_META_IIFNAME), compare(eq, []byte("veth")...), drop},
		"! -i lo -j DROP":                 {meta(unix.NFT_META_IIF), compare(neq, host(1)...), drop},
		"-p 6 -m tcp --dport 22 -j other": {meta(unix.NFT_META_L4PROTO), compare(eq, 6), payload(transport, 2, 2), compare(eq, 0, 22), verdict(unix.NFT_JUMP, "other")},
		"-s 10.0.0.0/8 -g other":          {payload(network, 12, 1), compare(eq, 10), verdict(unix.NFT_GOTO, "other")},
		"! -d 10.96.0.0/12 -j RETURN":     {payload(network, 16, 4), masked(255, 240, 0, 0), compare(neq, 10, 96, 0, 0), verdict(unix.NFT_RETURN, "")},
		"-d 192.0.2.1/32 -j REJECT --reject-with nftables": {payload(network, 16, 4), compare(eq, 192, 0, 2, 1), plain("reject")},
		"-m mark --mark 0x8/0xff -j DROP":                  {meta(unix.NFT_META_MARK), masked(host(0xff)...), compare(eq, host(8)...), drop},
		"-m conntrack --ctstate INVALID -j DROP":           {ct(unix.NFT_CT_STATE), masked(host(1)...), compare(neq, host(0)...), drop},
		"-m conntrack ! --ctstate NEW -j DROP":             {ct(unix.NFT_CT_STATE), masked(host(8)...), compare(eq, host(0)...), drop},
		"-p 6 -j DROP":                                     {meta(unix.NFT_META_L4PROTO), compare(eq, 6), extended("match", "comment"), drop},
		"[-m multiport] -j DROP":                           {extended("match", "multiport"), drop},
		"-s 10.0.0.0/8 -j REJECT --reject-with nftables":   {payload(network, 12, 1), compare(eq, 10), extended("target", "REJECT")},
		"-j DNAT --to-destination nftables":                {extended("target", "DNAT")},
		"-j LOG":                                           {extended("target", "LOG")},
		"-j XT-TARGET":                                     {extended("target", "MARK")},
		"[limit] -j DROP":                                  {plain("limit"), drop},
		"-j VERDICT-MAP":                                   {ct(unix.NFT_CT_STATE), {"lookup", func(b *netlink.Requests) { number(b, unix.NFTA_LOOKUP_DREG, 0) }}},
		"":                                                 {meta(unix.NFT_META_NFPROTO), compare(eq, unix.NFPROTO_IPV6), drop}, // never for IPv4
	} {
		var b netlink.Requests
		b.Begin(0, 0)
		expressions(&b, list)
		attributes, err := netlink.ParseAttributes(b.Body(0))
		if err != nil {
			t.Fatal(err)
		}
		handle := `-m comment --comment "handle 7"`
		if want != "" {
			want = handle + " " + want
		} else {
			want = handle
		}
		if got := spell(state.IPv4, rule{handle: 7, expressions: attributes[0].Value}); got != want {
			t.Errorf("spelled %q, want %q", got, want)
		}
	}
}

// The kernel of the lab has base chains of bridges alone.
func TestChainsAndRulesAreRead(t *testing.T) {
	c := open(t)
	theirs := table{unix.NFPROTO_BRIDGE, "theirs"}
	c.mustMake(t, theirs)
	c.requests.Reset()
	c.requests.Begin(subsystem|unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	c.requests.Raw(theirs.family, unix.NFNETLINK_V0, 0, 0)
	c.requests.String(unix.NFTA_CHAIN_TABLE, theirs.name)
	c.requests.String(unix.NFTA_CHAIN_NAME, "in")
	c.requests.Nest(unix.NFTA_CHAIN_HOOK, func() {
		number(&c.requests, unix.NFTA_HOOK_HOOKNUM, 1)
		number(&c.requests, unix.NFTA_HOOK_PRIORITY, 10)
	})
	number(&c.requests, unix.NFTA_CHAIN_POLICY, nfDrop)
	c.requests.String(unix.NFTA_CHAIN_TYPE, "filter")
	c.requests.Begin(subsystem|unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	c.requests.Raw(theirs.family, unix.NFNETLINK_V0, 0, 0)
	c.requests.String(unix.NFTA_RULE_TABLE, theirs.name)
	c.requests.String(unix.NFTA_RULE_CHAIN, "in")
	expressions(&c.requests, []expression{meta(unix.NFT_META_MARK), compare(unix.NFT_CMP_EQ, host(8)...), verdict(nfAccept, "")})
	if err := c.socket.Transaction(t.Context(), &c.requests, unix.NFNL_SUBSYS_NFTABLES); err != nil {
		t.Fatal(err)
	}
	l, err := c.listing(t.Context())
	if err != nil || len(l.chains) != 1 || len(l.rules) != 1 {
		t.Fatalf("%+v, %v, want one chain and one rule", l, err)
	}
	if want := (chain{theirs, "in", state.Base{Hook: "INPUT", Priority: 10, Drops: true}}); l.chains[0] != want {
		t.Errorf("chain %+v, want %+v", l.chains[0], want)
	}
	if got, want := spell(state.IPv4, l.rules[0]), `-m comment --comment "handle 2" -m mark --mark 0x8/0xffffffff -j ACCEPT`; got != want {
		t.Errorf("rule %q, want %q", got, want)
	}
	if err := c.Ruleset(context.Background(), state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}, nil); err != nil {
		t.Error(err)
	}
}

func TestTablesOfTheInternetAreOfBothFamiliesAndKnownOnesLeftOut(t *testing.T) {
	l := listing{
		dormant: []table{{unix.NFPROTO_INET, "asleep"}},
		chains: []chain{
			{table{unix.NFPROTO_INET, "firewalld"}, "filter_INPUT", state.Base{Hook: "INPUT", Priority: 10}},
			{table{unix.NFPROTO_INET, "asleep"}, "input", state.Base{Hook: "INPUT"}},
			{table{unix.NFPROTO_IPV4, "filter"}, "INPUT", state.Base{Hook: "INPUT"}},
			{table{unix.NFPROTO_IPV6, "six"}, "other", state.Base{}},
			{table{unix.NFPROTO_BRIDGE, "bridge"}, "INPUT", state.Base{Hook: "INPUT"}},
		},
		rules: []rule{{table{unix.NFPROTO_INET, "firewalld"}, "filter_INPUT", 3, nil}},
	}
	r := state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
	l.into(r, func(f state.Family, table string) bool { return f == state.IPv4 && table == "filter" })
	key := func(f state.Family, table, name string) state.ChainKey {
		return state.ChainKey{Family: f, Table: state.RuleTable("nftables " + table), Name: name}
	}
	four, six := key(state.IPv4, "inet firewalld", "filter_INPUT"), key(state.IPv6, "inet firewalld", "filter_INPUT")
	base := state.Base{Hook: "INPUT", Priority: 10}
	counts := state.ChainOf(`-m comment --comment "handle 3"`)
	want := state.Ruleset{
		Chains: map[state.ChainKey]state.Chain{four: counts, six: counts, key(state.IPv6, "ip6 six", "other"): {}},
		Bases:  map[state.ChainKey]state.Base{four: base, six: base},
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
