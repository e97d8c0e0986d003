// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// canonicalRules is what follows "-A CHAIN " in iptables-save's spelling, for everything that kube-proxy's IPVS mode
// writes and some rules of our own, as a template for both families. A rule that is written otherwise is listed
// otherwise, and every audit would write it again:
//
//   - Source, destination, interfaces and protocol come first, in this order
//     ([!] -s, [!] -d, [!] -i, [!] -o, -p); matches stay in the order they were
//     written in.
//   - A host has its /32 or /128, but not as --vaddr.
//   - A comment of more than one word, or with anything but letters, digits, -
//     and _, is quoted; in the quotes ", ' and \ are preceded by \.
//   - MARK is always --set-xmark: --or-mark X is X/X, --xor-mark X is X/0x0,
//     --set-mark X is X/0xffffffff.
//   - REJECT has its --reject-with.
//   - --ctstate lists INVALID,NEW,RELATED,ESTABLISHED in this order.
//   - -m ipvs lists --vproto (a number), --vaddr, --vport in this order.
//
// {NAME} is the name of a set, or one of the values of place holders.
var canonicalRules = map[state.RuleTable]map[string]string{
	state.NAT: {
		"KUBE-SERVICES": `-s {LO} -j RETURN
-m comment --comment "Kubernetes service lb portal" -m set --match-set {LOAD-BALANCER} dst,dst -j KUBE-LOAD-BALANCER
-m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set {CLUSTER-IP} dst,dst -j KUBE-MARK-MASQ
! -s {CIDR} -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set {CLUSTER-IP} dst,dst -j KUBE-MARK-MASQ
! -i br0 -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set {CLUSTER-IP} dst,dst -j KUBE-MARK-MASQ
! -i br+ -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set {CLUSTER-IP} dst,dst -j KUBE-MARK-MASQ
-m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set {CLUSTER-IP} src,dst -j KUBE-MARK-MASQ
-m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set {EXTERNAL-IP} dst,dst -j KUBE-MARK-MASQ
-m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set {EXTERNAL-IP} dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT
-m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set {EXTERNAL-IP} dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
-m comment --comment "Kubernetes service external ip + port with externalTrafficPolicy=local" -m set --match-set {EXTERNAL-IP-LOCAL} dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT
-m comment --comment "Kubernetes service external ip + port with externalTrafficPolicy=local" -m set --match-set {EXTERNAL-IP-LOCAL} dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-m set --match-set {CLUSTER-IP} dst,dst -j ACCEPT
-m set --match-set {LOAD-BALANCER} dst,dst -j ACCEPT`,
		"KUBE-LOAD-BALANCER": `-m comment --comment "Kubernetes service load balancer ip + port with externalTrafficPolicy=local" -m set --match-set {LOAD-BALANCER-LOCAL} dst,dst -j RETURN
-j KUBE-MARK-MASQ`,
		"KUBE-NODE-PORT": `-p tcp -m comment --comment "Kubernetes nodeport TCP port with externalTrafficPolicy=local" -m set --match-set {NODE-PORT-LOCAL-TCP} dst -j RETURN
-p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set {NODE-PORT-TCP} dst -j KUBE-MARK-MASQ
-p udp -m comment --comment "Kubernetes nodeport UDP port with externalTrafficPolicy=local" -m set --match-set {NODE-PORT-LOCAL-UDP} dst -j RETURN
-p udp -m comment --comment "Kubernetes nodeport UDP port for masquerade purpose" -m set --match-set {NODE-PORT-UDP} dst -j KUBE-MARK-MASQ
-p sctp -m comment --comment "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type \'hash ip:port\'" -m set --match-set {NODE-PORT-LOCAL-SCTP-HASH} dst,dst -j RETURN
-p sctp -m comment --comment "Kubernetes nodeport SCTP port for masquerade purpose with type \'hash ip:port\'" -m set --match-set {NODE-PORT-SCTP-HASH} dst,dst -j KUBE-MARK-MASQ`,
		"KUBE-MARK-MASQ": `-j MARK --set-xmark 0x4000/0x4000`,
		"KUBE-POSTROUTING": `-m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set {LOOP-BACK} dst,dst,src -j MASQUERADE
-m mark ! --mark 0x4000/0x4000 -j RETURN
-j MARK --set-xmark 0x4000/0x0
-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE
-m addrtype --src-type LOCAL -m ipvs --ipvs -j MASQUERADE --random-fully
-m set --match-set {IPVS-IPS} src -m ipvs --ipvs -j MASQUERADE --random-fully`,
	},
	state.Filter: {
		"KUBE-FORWARD": `-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		"KUBE-NODE-PORT": `-m comment --comment "Kubernetes health check node port" -m set --match-set {HEALTH-CHECK-NODE-PORT} dst -j ACCEPT
-p tcp -m comment --comment "Kubernetes health check node port" -m set --match-set {HEALTH-CHECK-NODE-PORT} dst -j ACCEPT`,
		"KUBE-PROXY-FIREWALL": `-m comment --comment "Kubernetes service load balancer ip + port for load balancer with sourceRange" -m set --match-set {LOAD-BALANCER-FW} dst,dst -j KUBE-SOURCE-RANGES-FIREWALL`,
		"KUBE-SOURCE-RANGES-FIREWALL": `-m comment --comment "Kubernetes service load balancer ip + port + source cidr for packet filter purpose" -m set --match-set {LOAD-BALANCER-SOURCE-CIDR} dst,dst,src -j RETURN
-m comment --comment "Kubernetes service load balancer ip + port + source IP for packet filter purpose" -m set --match-set {LOAD-BALANCER-SOURCE-IP} dst,dst,src -j RETURN
-j DROP`,
		"KUBE-IPVS-FILTER": `-m set --match-set {LOAD-BALANCER} dst,dst -j RETURN
-m set --match-set {CLUSTER-IP} dst,dst -j RETURN
-m set --match-set {EXTERNAL-IP} dst,dst -j RETURN
-m set --match-set {EXTERNAL-IP-LOCAL} dst,dst -j RETURN
-m set --match-set {HEALTH-CHECK-NODE-PORT} dst -j RETURN
-m conntrack --ctstate NEW -m set --match-set {IPVS-IPS} dst -j REJECT --reject-with {UNREACHABLE}
-p tcp -m conntrack --ctstate NEW -m set --match-set {IPVS-IPS} dst -j REJECT --reject-with tcp-reset
-m conntrack --ctstate INVALID -j DROP`,
		"KUBE-IPVS-OUT-FILTER": `-s {VIP}/{BITS} -m ipvs --vproto 6 --vaddr {VIP} --vport 80 -j DROP`,
	},
	state.Mangle: {
		"KUBE-IPVS-MARK": `-j SET --map-set {MARKS} dst,dst --map-mark
-s {CIDR} -m set --match-set {MARKS} dst,dst -j SET --map-set {MARKS} dst,dst --map-mark
-i br0 -j KUBE-IPVS-LOCAL
-i veth+ -j KUBE-IPVS-LOCAL
-m addrtype --src-type LOCAL -j KUBE-IPVS-LOCAL
-d {VIP}/{BITS} -p tcp -m tcp --dport 80 -j RETURN`,
		"KUBE-IPVS-LOCAL": `-m mark --mark 0x100 -m comment --comment word -j RETURN
-j MARK --set-xmark 0x100/0xffffffff`,
	},
}

// canonicalJumps are kube-proxy's, and those of the mark.
var canonicalJumps = map[state.JumpKey]string{
	{Table: state.NAT, From: "OUTPUT", To: "KUBE-SERVICES"}:           "kubernetes service portals",
	{Table: state.NAT, From: "PREROUTING", To: "KUBE-SERVICES"}:       "kubernetes service portals",
	{Table: state.NAT, From: "POSTROUTING", To: "KUBE-POSTROUTING"}:   "kubernetes postrouting rules",
	{Table: state.Filter, From: "FORWARD", To: "KUBE-FORWARD"}:        "kubernetes forwarding rules",
	{Table: state.Filter, From: "INPUT", To: "KUBE-NODE-PORT"}:        "kubernetes health check rules",
	{Table: state.Filter, From: "INPUT", To: "KUBE-PROXY-FIREWALL"}:   "kube-proxy firewall rules",
	{Table: state.Filter, From: "FORWARD", To: "KUBE-PROXY-FIREWALL"}: "kube-proxy firewall rules",
	{Table: state.Filter, From: "INPUT", To: "KUBE-IPVS-FILTER"}:      "kubernetes ipvs access filter",
	{Table: state.Filter, From: "OUTPUT", To: "KUBE-IPVS-OUT-FILTER"}: "kubernetes ipvs access filter",
	{Table: state.Mangle, From: "PREROUTING", To: "KUBE-IPVS-MARK"}:   "kube-ipvs marks",
	{Table: state.Mangle, From: "OUTPUT", To: "KUBE-IPVS-MARK"}:       "kube-ipvs marks",
}

// canonicalSets are the sets that the rules name, with ipset's words for them.
var canonicalSets = map[string]string{
	"LOOP-BACK": "hash:ip,port,ip", "CLUSTER-IP": "hash:ip,port", "EXTERNAL-IP": "hash:ip,port",
	"EXTERNAL-IP-LOCAL": "hash:ip,port", "LOAD-BALANCER": "hash:ip,port", "LOAD-BALANCER-FW": "hash:ip,port",
	"LOAD-BALANCER-LOCAL": "hash:ip,port", "LOAD-BALANCER-SOURCE-IP": "hash:ip,port,ip",
	"LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net", "NODE-PORT-TCP": "bitmap:port",
	"NODE-PORT-LOCAL-TCP": "bitmap:port", "NODE-PORT-UDP": "bitmap:port", "NODE-PORT-LOCAL-UDP": "bitmap:port",
	"NODE-PORT-SCTP-HASH": "hash:ip,port", "NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
	"HEALTH-CHECK-NODE-PORT": "bitmap:port", "IPVS-IPS": "hash:ip", "MARKS": "hash:ip,port skbinfo",
}

func canonicalSetName(f state.Family, name string) string {
	if f == state.IPv4 {
		return "KUBE-" + name
	}
	name = "KUBE-6-" + name
	return name[:min(len(name), 31)] // two are too long for the kernel
}

// canonical are the rules and jumps of a family.
func canonical(f state.Family) (map[state.ChainKey]state.Chain, map[state.JumpKey]state.Jump) {
	words := []string{
		"{LO}", "127.0.0.0/8", "{CIDR}", "10.244.0.0/16", "{VIP}", "203.0.113.7", "{BITS}", "32",
		"{UNREACHABLE}", "icmp-port-unreachable",
	}
	if f == state.IPv6 {
		words = []string{
			"{LO}", "::1/128", "{CIDR}", "fd00:10:244::/56", "{VIP}", "2001:db8:7::7", "{BITS}", "128",
			"{UNREACHABLE}", "icmp6-port-unreachable",
		}
	}
	for name := range canonicalSets {
		words = append(words, "{"+name+"}", canonicalSetName(f, name))
	}
	fill := strings.NewReplacer(words...)
	chains := map[state.ChainKey]state.Chain{}
	for table, byName := range canonicalRules {
		for name, rules := range byName {
			chains[state.ChainKey{Family: f, Table: table, Name: name}] = state.Chain{Rules: fill.Replace(rules)}
		}
	}
	jumps := map[state.JumpKey]state.Jump{}
	for key, comment := range canonicalJumps {
		key.Family = f
		quoted := `-m comment --comment "` + comment + `" -j ` + key.To
		jumps[key] = state.Jump{Rule: quoted}
	}
	return chains, jumps
}

// makeSets makes the sets that the rules of a family name.
func makeSets(t *testing.T, f state.Family) {
	t.Helper()
	family := map[state.Family]string{state.IPv4: "inet", state.IPv6: "inet6"}[f]
	var input strings.Builder
	for name, kind := range canonicalSets {
		words := "family " + family
		if kind == "bitmap:port" {
			words = "range 0-65535"
		}
		kind, options, _ := strings.Cut(kind, " ")
		input.WriteString(strings.Join([]string{"create", canonicalSetName(f, name), kind, words, options}, " ") + "\n")
	}
	testkit.Feed(t, input.String(), "ipset", "restore")
}

func TestCanonicalRulesAreListedAsWritten(t *testing.T) {
	c := open(t)
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		makeSets(t, f)
	}
	chains, jumps := bothFamilies()
	testkit.AddAll(t, c.Chains(), chains)
	equal(t, c.Chains(), chains)
	testkit.AddAll(t, c.Jumps(), jumps)
	equal(t, c.Jumps(), jumps)
	equal(t, c.Chains(), chains)
	if d := diff.Of(testkit.Listed(t, c.Chains()), chains, state.ChainKey.Compare); d.Len() != 0 {
		t.Errorf("an audit would change %+v", d)
	}
}

func bothFamilies() (map[state.ChainKey]state.Chain, map[state.JumpKey]state.Jump) {
	chains, jumps := canonical(state.IPv4)
	chains6, jumps6 := canonical(state.IPv6)
	for k, v := range chains6 {
		chains[k] = v
	}
	for k, v := range jumps6 {
		jumps[k] = v
	}
	return chains, jumps
}
