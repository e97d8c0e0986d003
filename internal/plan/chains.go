// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Our chains, by kube-proxy's names.
const (
	chainServices     = "KUBE-SERVICES"
	chainPostrouting  = "KUBE-POSTROUTING"
	chainNodePort     = "KUBE-NODE-PORT" // in nat and in filter
	chainLoadBalancer = "KUBE-LOAD-BALANCER"
	chainMarkMasq     = "KUBE-MARK-MASQ"
	chainForward      = "KUBE-FORWARD"
	chainFirewall     = "KUBE-PROXY-FIREWALL"
	chainSourceRanges = "KUBE-SOURCE-RANGES-FIREWALL"
	chainIPVSFilter   = "KUBE-IPVS-FILTER"
	chainIPVSOut      = "KUBE-IPVS-OUT-FILTER"

	// In nat, for clients in the cluster.
	chainInside       = "KUBE-INSIDE"
	chainAllEndpoints = "KUBE-ALL-ENDPOINTS"

	// In mangle, which kube-proxy does not use, together with KUBE-SOURCE-RANGES-FIREWALL.
	chainOutput = "KUBE-NODE-OUTPUT"

	// The one that we made before.
	chainNoLocal = "KUBE-NO-LOCAL"

	// TrialChain is one in which rules are tried. A process that is killed then leaves it.
	TrialChain = "KUBE-IPVS-TRIAL"
)

// OurChain reports whether a chain of this name is ours, in any table, or was. kubelet's chains
// (KUBE-FIREWALL, KUBE-KUBELET-CANARY) are not.
func OurChain(name string) bool {
	return slices.Contains([]string{
		chainServices, chainPostrouting, chainNodePort, chainLoadBalancer, chainMarkMasq,
		chainForward, chainFirewall, chainSourceRanges, chainIPVSFilter, chainIPVSOut,
		chainInside, chainAllEndpoints, chainOutput, chainNoLocal, TrialChain,
	}, name)
}

// jump leads from a built-in chain to one of ours.
type jump struct {
	table           state.RuleTable
	from, to, about string
}

func jumps() []jump {
	return []jump{
		// Marking comes before IPVS, which takes packets in INPUT, and in OUTPUT those of the node itself.
		{state.NAT, "PREROUTING", chainServices, "kubernetes service portals"},
		{state.NAT, "OUTPUT", chainServices, "kubernetes service portals"},
		{state.Mangle, "OUTPUT", chainOutput, "kubernetes service portals"},
		// Masquerade comes after IPVS has put the endpoint's address in.
		{state.NAT, "POSTROUTING", chainPostrouting, "kubernetes postrouting rules"},
		// Answers to masqueraded packets are forwarded, and must be on nodes whose FORWARD policy is DROP, as
		// Docker makes it.
		{state.Filter, "FORWARD", chainForward, "kubernetes forwarding rules"},
		// Packets to a VIP come through INPUT, as the VIP is local.
		{state.Filter, "INPUT", chainNodePort, "kubernetes health check rules"},
		{state.Filter, "FORWARD", chainFirewall, "kube-proxy firewall rules"},
		{state.Filter, "INPUT", chainIPVSFilter, "kubernetes ipvs access filter"},
		{state.Filter, "OUTPUT", chainIPVSOut, "kubernetes ipvs access filter"},
	}
}

// about is the match that does nothing but carry kube-proxy's comment.
func about(text string) string { return `-m comment --comment "` + text + `" ` }

// chains are our chains for family f, with the family's words in place of those in braces and brackets.
func chains(f state.Family, c config.Config) []chain {
	words := vocabulary(f, c)
	list := slices.Concat(
		mangleChains(),
		natChains(f, c),
		filterChains(healthz(c), ping(c), unallocated(f, c)),
	)
	for _, ch := range list {
		for i := range ch.rules {
			ch.rules[i] = words.Replace(ch.rules[i])
		}
	}
	return list
}

// vocabulary knows, for each set, {NAME}, a look into it, {!NAME}, one that is in vain, [NAME] and [!NAME],
// the same with kube-proxy's comment in front.
func vocabulary(f state.Family, c config.Config) *strings.Replacer {
	words := []string{
		"{loopback}", "127.0.0.0/8",
		"{unreachable}", "icmp-port-unreachable",
		"{echo-request}", "-p icmp -m icmp --icmp-type 8",
	}
	if f == state.IPv6 {
		words = []string{
			"{loopback}", "::1/128",
			"{unreachable}", "icmp6-port-unreachable",
			"{echo-request}", "-p ipv6-icmp -m icmp6 --icmpv6-type 128",
		}
	}
	words = append(words,
		"{inside}", state.InsideAddress(f).String(),
		"{shifted}", fmt.Sprintf(":%d-%d/%d", state.FirstPort, state.LastPort, state.PortShift),
		"{mark}", fmt.Sprintf("%#x", c.Mark()),
		"{netmap}", NetmapRule(f))
	for _, s := range sets() {
		name := string(named(f, s.name))
		look := "-m set --match-set " + name
		words = append(words,
			"{!"+string(s.name)+"}", "-m set ! --match-set "+name,
			"{"+string(s.name)+"}", look,
			"["+string(s.name)+"]", about(s.about)+look,
			"[!"+string(s.name)+"]", about(s.about)+"-m set ! --match-set "+name)
	}
	return strings.NewReplacer(words...)
}

// clusterIPMasquerade is the rule for traffic to cluster IPs from elsewhere than this node's pods. Its answer
// would go straight to where it came from, with an address that nobody there asked; so it has to come back
// here first.
func clusterIPMasquerade(f state.Family, c config.Config) string {
	const toClusterIP, mark = "[KUBE-CLUSTER-IP] dst,dst", " -j KUBE-MARK-MASQ"
	if c.MasqueradeAll {
		return toClusterIP + mark
	}
	if elsewhere := notLocal(f, c.LocalDetector); elsewhere != "" {
		return elsewhere + " " + toClusterIP + mark
	}
	// Nobody can tell who is a pod. What is sure is that a source which is itself a Service address is the
	// node, which got it from DummyLink; and if the address is routed, one that is the node's own.
	if c.VIPBinding == config.RouteBinding {
		return "-m addrtype --src-type LOCAL " + toClusterIP + mark
	}
	return "[KUBE-CLUSTER-IP] src,dst" + mark
}

// notLocal matches packets that are not from this node's pods. It is empty if there is no way to tell for
// family f.
func notLocal(f state.Family, d config.LocalDetector) string {
	if l := local(f, d); l != "" {
		return "! " + l
	}
	return ""
}

// local matches packets that are from this node's pods, as far as the detector can tell. It is empty if there
// is no way to tell for family f.
func local(f state.Family, d config.LocalDetector) string {
	switch d.Kind {
	case config.DetectCIDR:
		i := slices.IndexFunc(d.CIDRs, func(p netip.Prefix) bool { return state.FamilyOf(p.Addr()) == f })
		if i >= 0 {
			return "-s " + d.CIDRs[i].Masked().String()
		}
	case config.DetectBridge:
		return "-i " + d.Interface
	case config.DetectPrefix:
		return "-i " + d.Interface + "+"
	}
	return ""
}
