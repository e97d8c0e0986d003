// SPDX-License-Identifier: Apache-2.0

// Package takeover knows what kube-proxy leaves on a node, what its rules do until ours work, and what it
// needs to take a node back.
//
// kube-proxy's IPVS mode has the same names as we: the first audit finds what it left, keeps what is right
// and corrects the rest. Its other modes send packets to endpoints by rules of their own, before the routing
// that would bring the packets to a virtual server. So both can exist together, and the rules win. A takeover
// first writes all of ours to the kernel, and then removes those rules. Their connections go on: conntrack
// remembers the endpoints.
package takeover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NFTable is the table of kube-proxy's nftables mode, one for each family.
const NFTable = "kube-proxy"

// KubeProxy knows kube-proxy's rules from ours.
type KubeProxy struct{}

// OnlyIts reports whether a chain of that name belongs to kube-proxy's iptables mode, and is no chain of ours
// in any table. kubelet's chains do not: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, and
// KUBE-MARK-DROP of older ones.
func OnlyIts(chain string) bool {
	return slices.Contains([]string{state.ChainNodePorts, state.ChainExternalServices, state.ChainProxyCanary}, chain) || perService(chain)
}

// perService reports whether a chain is for one port of a Service, or one of its endpoints.
func perService(chain string) bool {
	return slices.ContainsFunc([]string{
		"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-",
		"KUBE-XLB-", // of 1.23 and before
	}, func(prefix string) bool { return strings.HasPrefix(chain, prefix) })
}

// Left reports whether a chain, or a table of nftables, is kube-proxy's and useless to us. Our KUBE-SERVICES is not in filter.
func (KubeProxy) Left(k state.ChainKey) bool {
	if k.Table == state.NFTables {
		return k.Name == NFTable
	}
	return OnlyIts(k.Name) || k.Table == state.Filter && k.Name == state.ChainServices
}

// Interim returns a chain's content until virtual servers and addresses can do its work; false: the chain
// does no such work. have is how kube-proxy left it, or an earlier result; want is the final content.
//
// Rules that mark packets for masquerade come first. As soon as Service addresses are local, they are the
// source of the node's own packets to them, and kube-proxy would not masquerade those if it cannot recognize
// pods. So do rules that lead from Service addresses to all endpoints: an IPv6 address is a source before it
// is local, and kube-proxy recognizes the node by a local source.
func (KubeProxy) Interim(have, want state.Chain) (state.Chain, bool) {
	rules := have.Lines()
	if !slices.ContainsFunc(rules, serves) {
		return state.Chain{}, false
	}
	var front []string
	for _, rule := range want.Lines() {
		if (target(rule) == state.ChainMarkMasq || leads(rule)) && !slices.Contains(rules, rule) {
			front = append(front, rule)
		}
	}
	return state.ChainOf(append(front, rules...)...), true
}

// leads reports whether a rule of ours leads from Service addresses to all endpoints. From the node's own
// addresses packets are led to an address that is written last, so these rules must wait.
func leads(rule string) bool {
	return target(rule) == state.ChainInside && !strings.Contains(rule, "-INSIDE-NODE ")
}

// serves reports whether a rule sends packets to the endpoints of a Service.
func serves(rule string) bool {
	to := target(rule)
	return to == state.ChainNodePorts || perService(to)
}

// target returns the chain that a rule in iptables-save's spelling goes to; empty if it goes to none.
func target(rule string) string {
	words := strings.Fields(rule)
	if n := len(words); n >= 2 && (words[n-2] == "-j" || words[n-2] == "-g") {
		return words[n-1]
	}
	return ""
}

// Serving returns the families in which kube-proxy's iptables mode sends packets to endpoints, by the chains
// of a kernel.
func Serving(chains map[state.ChainKey]state.Chain) []state.Family {
	var families []state.Family
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		k := state.ChainKey{Family: f, Table: state.NAT, Name: state.ChainServices}
		if slices.ContainsFunc(chains[k].Lines(), serves) {
			families = append(families, f)
		}
	}
	return families
}

// Shared reports whether both we and kube-proxy's iptables mode have a chain. Where kube-proxy runs, it is
// kube-proxy's.
func Shared(k state.ChainKey) bool {
	switch k.Table {
	case state.NAT:
		return slices.Contains([]string{state.ChainServices, state.ChainPostrouting, state.ChainMarkMasq}, k.Name)
	case state.Filter:
		return slices.Contains([]string{state.ChainServices, state.ChainForward, state.ChainFirewall}, k.Name)
	}
	return false
}

// Predecessors knows the rules of programs that may have served the node before: of kube-proxy, and of older
// versions of ours. Those led packets to virtual servers by marks. While rules set such marks, the virtual
// servers must take new connections and the rules that match the marks must stay. So none of them changes or
// goes before all else is in the kernel.
type Predecessors struct{ KubeProxy }

// Left reports whether a chain is a predecessor's, and useless to us.
func (p Predecessors) Left(k state.ChainKey) bool {
	marking := k.Table == state.Mangle && slices.Contains([]string{state.ChainServices, state.ChainPostrouting, state.ChainNoLocal}, k.Name)
	return marking || p.KubeProxy.Left(k)
}

// Interim returns a chain's content until all else is in the kernel; false: the final one. See KubeProxy.
func (p Predecessors) Interim(have, want state.Chain) (state.Chain, bool) {
	rules := have.Lines()
	if slices.ContainsFunc(rules, knowsMarks) {
		return have, true
	}
	if len(rules) > 0 && !slices.ContainsFunc(rules, refuses) && slices.ContainsFunc(want.Lines(), refuses) {
		return state.ChainOf(slices.DeleteFunc(want.Lines(), refuses)...), true
	}
	return p.KubeProxy.Interim(have, want)
}

// refuses reports whether a rule drops packets where only other nodes have endpoints. Clients in the cluster
// get those endpoints once they are led there. Until then, unknown rules may send them there.
func refuses(rule string) bool { return strings.Contains(rule, "-NO-LOCAL dst,dst -j DROP") }

// knowsMarks reports whether a rule sets or matches a mark by which an older version of ours knew a virtual
// server.
func knowsMarks(rule string) bool {
	return strings.Contains(rule, "--map-mark") || strings.Contains(rule, fmt.Sprintf("--mark %#x/%#x", state.MarkValue, state.MarkMask))
}
