// SPDX-License-Identifier: Apache-2.0

package rule_test

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	tcp  = rule.Proto(state.TCP)
	udp  = rule.Proto(state.UDP)
	sctp = rule.Proto(state.SCTP)

	isNew = rule.Tracked(rule.New)
)

// spelling is one rule of table nat in all three forms. nft (1.0.6) lists it so.
type spelling struct {
	family state.Family
	rule   rule.Rule
	text   string
	nft    string
}

func spellings() []spelling { return slices.Concat(ofMatches(), ofSets(), ofVerdicts(), ofIPv6()) }

func network(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func in(n state.SetName, of rule.Parts) rule.Member { return rule.Member{Set: n, Of: of} }

func ofMatches() []spelling {
	const v4 = state.IPv4
	return []spelling{
		{v4, rule.When(rule.In{Network: network("127.0.0.0/8")}).Then(rule.Return),
			`-s 127.0.0.0/8 -j RETURN`, `ip saddr 127.0.0.0/8 return`},
		{v4, rule.When(rule.In{Network: network("10.0.0.1/32"), Not: true}).Then(rule.Drop),
			`! -s 10.0.0.1/32 -j DROP`, `ip saddr != 10.0.0.1 drop`},
		{v4, rule.When(rule.In{Side: rule.Destination, Network: network("10.96.0.0/12")}).Then(rule.Drop),
			`-d 10.96.0.0/12 -j DROP`, `ip daddr 10.96.0.0/12 drop`},
		{v4, rule.When(rule.Via{Interface: "br0"}, rule.Local(rule.Destination)).Then(rule.Return),
			`-i br0 -m addrtype --dst-type LOCAL -j RETURN`, `iifname "br0" fib daddr type local return`},
		{v4, rule.When(rule.Via{Interface: "cali", Begins: true, Not: true}, rule.Local(rule.Source)).Then(rule.Return),
			`! -i cali+ -m addrtype --src-type LOCAL -j RETURN`, `iifname != "cali*" fib saddr type local return`},
		{v4, rule.When(tcp, rule.Port(10256)).Then(rule.Return),
			`-p tcp -m tcp --dport 10256 -j RETURN`, `tcp dport 10256 return`},
		{v4, rule.When(rule.EchoRequest{}).Then(rule.Return),
			`-p icmp -m icmp --icmp-type 8 -j RETURN`, `icmp type echo-request return`},
		{v4, rule.When(rule.Tracked(rule.New)).Then(rule.Drop),
			`-m conntrack --ctstate NEW -j DROP`, `ct state new drop`},
		{v4, rule.When(rule.Tracked(rule.Established)).Then(rule.Accept),
			`-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`, `ct state established,related dnat to ip daddr`},
		{v4, rule.When(rule.Tracked(rule.Translated)).Then(rule.Accept),
			`-m conntrack --ctstate DNAT -j ACCEPT`, `ct status dnat dnat to ip daddr`},
		{v4, rule.When(rule.Marked{Value: 0x4000, Mask: 0x4000}).Then(rule.Accept),
			`-m mark --mark 0x4000/0x4000 -j ACCEPT`, `meta mark & 0x00004000 == 0x00004000 dnat to ip daddr`},
		{v4, rule.When(rule.Marked{Value: 0x4000, Mask: 0x4000, Not: true}).Then(rule.Return),
			`-m mark ! --mark 0x4000/0x4000 -j RETURN`, `meta mark & 0x00004000 != 0x00004000 return`},
		{v4, rule.When(rule.Marked{Value: 0x100, Mask: 0xffffffff}).Then(rule.Return),
			`-m mark --mark 0x100 -j RETURN`, `meta mark 0x00000100 return`},
		{v4, rule.When(rule.Marked{Value: 0x80000000, Mask: 0x80000000}).Then(rule.Accept),
			`-m mark --mark 0x80000000/0x80000000 -j ACCEPT`, `meta mark 0x80000000/1 dnat to ip daddr`},
		{v4, rule.When(rule.Marked{Value: 0xa0000000, Mask: 0xa0000000, Not: true}).Then(rule.Return),
			`-m mark ! --mark 0xa0000000/0xa0000000 -j RETURN`, `meta mark & 0xa0000000 != 0xa0000000 return`},
		{v4, rule.When(rule.About("word")).Then(rule.Accept),
			`-m comment --comment word -j ACCEPT`, `dnat to ip daddr comment "word"`},
		{v4, rule.When(rule.About(`a type 'hash ip:port'`)).Then(rule.Jump("KUBE-X")),
			`-m comment --comment "a type \'hash ip:port\'" -j KUBE-X`, `jump nat-KUBE-X comment "a type 'hash ip:port'"`},
	}
}

func ofSets() []spelling {
	const v4 = state.IPv4
	return []spelling{
		{v4, rule.When(in("KUBE-IPVS-IPS", rule.To)).Then(rule.Return),
			`-m set --match-set KUBE-IPVS-IPS dst -j RETURN`, `ip daddr @KUBE-IPVS-IPS return`},
		{v4, rule.When(in("nft:KUBE-IPVS-IPS", rule.From)).Then(rule.Return),
			`-m set --match-set nft:KUBE-IPVS-IPS src -j RETURN`, `ip saddr @KUBE-IPVS-IPS return`},
		{v4, rule.When(in("nft:KUBE-CLUSTER-IP", rule.ToPort)).Then(rule.Jump("KUBE-MARK-MASQ")),
			`-m set --match-set nft:KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ`,
			`ip daddr . meta l4proto . th dport @KUBE-CLUSTER-IP jump nat-KUBE-MARK-MASQ`},
		{v4, rule.When(in("nft:KUBE-CLUSTER-IP", rule.FromPort)).Then(rule.Jump("KUBE-MARK-MASQ")),
			`-m set --match-set nft:KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ`,
			`ip saddr . meta l4proto . th dport @KUBE-CLUSTER-IP jump nat-KUBE-MARK-MASQ`},
		{v4, rule.When(rule.Member{Set: "nft:KUBE-LOOP-BACK", Of: rule.ToPortFrom, Not: true}).Then(rule.Return),
			`-m set ! --match-set nft:KUBE-LOOP-BACK dst,dst,src -j RETURN`,
			`ip daddr . meta l4proto . th dport . ip saddr != @KUBE-LOOP-BACK return`},
		{v4, rule.When(sctp, in("nft:KUBE-NODE-PORT-SCTP-HASH", rule.ToPort)).Then(rule.Return),
			`-p sctp -m set --match-set nft:KUBE-NODE-PORT-SCTP-HASH dst,dst -j RETURN`,
			`ip daddr . meta l4proto . sctp dport @KUBE-NODE-PORT-SCTP-HASH return`},
		{v4, rule.When(tcp, in("nft:KUBE-NODE-PORT-TCP", rule.To), in("nft:KUBE-NODE-IPS", rule.To)).Then(rule.Accept),
			`-p tcp -m set --match-set nft:KUBE-NODE-PORT-TCP dst -m set --match-set nft:KUBE-NODE-IPS dst -j ACCEPT`,
			`tcp dport @KUBE-NODE-PORT-TCP ip daddr @KUBE-NODE-IPS dnat to ip daddr`},
		{v4, rule.When(udp, rule.About("b"), in("nft:KUBE-NODE-PORT-LOCAL-UDP", rule.To)).Then(rule.Return),
			`-p udp -m comment --comment b -m set --match-set nft:KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN`,
			`udp dport @KUBE-NODE-PORT-LOCAL-UDP return comment "b"`},
		{v4, rule.When(udp, in("nft:KUBE-IPVS-IPS", rule.To)).Then(rule.Drop),
			`-p udp -m set --match-set nft:KUBE-IPVS-IPS dst -j DROP`, `meta l4proto udp ip daddr @KUBE-IPVS-IPS drop`},
	}
}

func ofVerdicts() []spelling {
	const v4 = state.IPv4
	return []spelling{
		{v4, rule.Always().Then(rule.Refuse), `-j REJECT --reject-with icmp-port-unreachable`, `reject`},
		{v4, rule.Always().Then(rule.Mark{Value: 0x4000, Mask: 0x4000}),
			`-j MARK --set-xmark 0x4000/0x4000`, `meta mark set meta mark | 0x00004000`},
		{v4, rule.Always().Then(rule.Mark{Value: 0x4000}),
			`-j MARK --set-xmark 0x4000/0x0`, `meta mark set meta mark ^ 0x00004000`},
		{v4, rule.Always().Then(rule.Mark{Value: 0x101, Mask: 0xff}),
			`-j MARK --set-xmark 0x101/0xff`, `meta mark set meta mark & 0xffffff01 ^ 0x00000100 | 0x00000001`},
		{v4, rule.When(rule.About("x")).Then(rule.Masquerade{}),
			`-m comment --comment x -j MASQUERADE --random-fully`, `masquerade fully-random comment "x"`},
		{v4, rule.When(tcp).Then(rule.Masquerade{First: 1024, Last: 29999}),
			`-p tcp -j MASQUERADE --to-ports 1024-29999 --random-fully`, `meta l4proto tcp masquerade to :1024-29999 fully-random`},
		{v4, rule.When(tcp).Then(rule.Masquerade{First: 1024, Last: 1024}),
			`-p tcp -j MASQUERADE --to-ports 1024 --random-fully`, `meta l4proto tcp masquerade to :1024 fully-random`},
		{v4, rule.When(udp, in("nft:KUBE-INSIDE", rule.ToPort)).Then(rule.ShiftPort{}),
			`-p udp -m set --match-set nft:KUBE-INSIDE dst,dst -j DNAT --to-destination :1-65535/32768`,
			`meta l4proto udp dnat to :ip daddr . meta l4proto . udp dport map @KUBE-INSIDE`},
		{v4, rule.When(isNew, in("nft:KUBE-INSIDE", rule.ToPort)).Then(rule.Return),
			`-m conntrack --ctstate NEW -m set --match-set nft:KUBE-INSIDE dst,dst -j RETURN`,
			`ct state new ip daddr . meta l4proto . th dport map @KUBE-INSIDE != 0 return`},
		{v4, rule.When(in("nft:KUBE-INSIDE-NODE", rule.ToPort)).Then(rule.Redirect(netip.MustParseAddr("169.254.75.1"))),
			`-m set --match-set nft:KUBE-INSIDE-NODE dst,dst -j DNAT --to-destination 169.254.75.1`,
			`ip daddr . meta l4proto . th dport @KUBE-INSIDE-NODE dnat to 169.254.75.1`},
		{v4, rule.When(in("nft:KUBE-ALL-PORTS", rule.ToPort), rule.Local(rule.Destination)).Then(rule.Join{}),
			`-m set --match-set nft:KUBE-ALL-PORTS dst,dst -m addrtype --dst-type LOCAL -j NETMAP --to 250.0.0.0/8`,
			`fib daddr type local dnat to ip daddr . meta l4proto . th dport map @KUBE-ALL-PORTS`},
	}
}

func ofIPv6() []spelling {
	const v6 = state.IPv6
	return []spelling{
		{v6, rule.When(rule.In{Network: network("::1/128")}).Then(rule.Return), `-s ::1/128 -j RETURN`, `ip6 saddr ::1 return`},
		{v6, rule.When(rule.EchoRequest{}).Then(rule.Return),
			`-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j RETURN`, `icmpv6 type echo-request return`},
		{v6, rule.When(in("nft:KUBE-6-LOOP-BACK", rule.ToPortFrom)).Then(rule.Refuse),
			`-m set --match-set nft:KUBE-6-LOOP-BACK dst,dst,src -j REJECT --reject-with icmp6-port-unreachable`,
			`ip6 daddr . meta l4proto . th dport . ip6 saddr @KUBE-6-LOOP-BACK reject`},
		{v6, rule.Always().Then(rule.Redirect(netip.MustParseAddr("fd5f:8a2c:91d3::1"))),
			`-j DNAT --to-destination fd5f:8a2c:91d3::1`, `dnat to fd5f:8a2c:91d3::1`},
		{v6, rule.When(in("nft:KUBE-6-ALL-PORTS", rule.ToPort)).Then(rule.Join{}),
			`-m set --match-set nft:KUBE-6-ALL-PORTS dst,dst -j NETMAP --to fd5f:8a2c::/32`,
			`dnat to ip6 daddr . meta l4proto . th dport map @KUBE-6-ALL-PORTS`},
	}
}
