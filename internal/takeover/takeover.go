// SPDX-License-Identifier: Apache-2.0

// Package takeover knows what kube-proxy leaves on a node, and what it expects to find there. It is pure, and
// knows rows only.
//
// kube-proxy's IPVS mode uses the names that we use: what it left is found by the first audit, kept where it
// is right and corrected where it is not. The other modes send packets to endpoints by rules of their own,
// before the routing that would bring them to a virtual server. So both can be there together, and the rules
// win; taking over is to have everything of ours in the kernel first, and to take the rules away then.
// Connections that they have sent on by then go on: conntrack remembers where to.
package takeover

import (
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// kube-proxy's chains of iptables mode whose names we have as well.
const (
	chainServices    = "KUBE-SERVICES"
	chainPostrouting = "KUBE-POSTROUTING"
	chainInside      = "KUBE-INSIDE" // ours alone
	chainMarkMasq    = "KUBE-MARK-MASQ"
	chainForward     = "KUBE-FORWARD"
	chainFirewall    = "KUBE-PROXY-FIREWALL"
)

// chainNodePorts sends NodePorts on, in nat. In filter it lets health checks in.
const chainNodePorts = "KUBE-NODEPORTS"

// NFTable is the table that kube-proxy's nftables mode has for each family.
const NFTable = "kube-proxy"

// KubeProxy tells kube-proxy's rules from ours.
type KubeProxy struct{}

// OnlyIts says whether a chain of that name is kube-proxy's, of its iptables mode, and no chain of ours in
// any table. kubelet's are not: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, and KUBE-MARK-DROP of
// older ones.
func OnlyIts(chain string) bool {
	switch chain {
	case chainNodePorts, "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-CANARY":
		return true
	}
	return perService(chain)
}

// perService says whether a chain is one of those that each port of a Service, or each of its endpoints, has
// of its own.
func perService(chain string) bool {
	own := func(prefix string) bool { return strings.HasPrefix(chain, prefix) }
	return slices.ContainsFunc([]string{
		"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-",
		"KUBE-XLB-", // of 1.23 and before
	}, own)
}

// Left says whether a chain, or a table of nftables, is kube-proxy's and no use to us. Our KUBE-SERVICES is
// not in filter.
func (KubeProxy) Left(k state.ChainKey) bool {
	switch k.Table {
	case state.NFTables:
		return k.Name == NFTable
	case state.Filter:
		return k.Name == chainServices || OnlyIts(k.Name)
	}
	return OnlyIts(k.Name)
}

// Interim is what a chain should be before virtual servers and addresses are there to do its work; false: it
// does no such work. have is how kube-proxy left it, or what this function returned earlier, want is how it
// will be.
//
// What marks packets for masquerade comes to the front: as soon as Service addresses are local, they are the
// source of what the node itself sends to them, and where kube-proxy can't tell who is a pod it would not
// masquerade that. So does what leads from Service addresses to all endpoints: an IPv6 address is a source
// before it is local, and kube-proxy knows the node by that its source is local.
func (KubeProxy) Interim(have, want state.Chain) (state.Chain, bool) {
	rules := have.Lines()
	if !slices.ContainsFunc(rules, serves) {
		return state.Chain{}, false
	}
	var front []string
	for _, rule := range want.Lines() {
		if (target(rule) == chainMarkMasq || leads(rule)) && !slices.Contains(rules, rule) {
			front = append(front, rule)
		}
	}
	return state.ChainOf(append(front, rules...)...), true
}

// leads reports whether a rule of ours leads from Service addresses to all endpoints. From the node's own
// addresses it is not before all else is in the kernel that one may be led: to an address that is there last.
func leads(rule string) bool {
	return target(rule) == chainInside && !strings.Contains(rule, "-INSIDE-NODE ")
}

// serves says whether a rule sends packets to the endpoints of a Service.
func serves(rule string) bool {
	to := target(rule)
	return to == chainNodePorts || perService(to)
}

// target is the chain that a rule in iptables-save's spelling goes to, if it goes to one.
func target(rule string) string {
	words := strings.Fields(rule)
	if n := len(words); n >= 2 && (words[n-2] == "-j" || words[n-2] == "-g") {
		return words[n-1]
	}
	return ""
}

// Serving are the families in which kube-proxy's iptables mode sends packets to endpoints, by the chains of a
// kernel.
func Serving(chains map[state.ChainKey]state.Chain) []state.Family {
	var families []state.Family
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		k := state.ChainKey{Family: f, Table: state.NAT, Name: chainServices}
		if slices.ContainsFunc(chains[k].Lines(), serves) {
			families = append(families, f)
		}
	}
	return families
}

// Shared says whether a chain is one that we and kube-proxy's iptables mode both have, so that it is
// kube-proxy's where that is at work.
func Shared(k state.ChainKey) bool {
	switch k.Table {
	case state.NAT:
		return slices.Contains([]string{chainServices, chainPostrouting, chainMarkMasq}, k.Name)
	case state.Filter:
		return slices.Contains([]string{chainServices, chainForward, chainFirewall}, k.Name)
	}
	return false
}
