// SPDX-License-Identifier: Apache-2.0

// Package takeover knows what kube-proxy leaves on a node, what its rules do until ours work, and what it needs to take
// a node back.
//
// kube-proxy's IPVS mode has the same names as we: the first audit finds what it left, keeps what is right and corrects
// the rest. Its other modes send packets to endpoints by rules of their own, before the routing that would bring the
// packets to a virtual server. So both can exist together, and the rules win. A takeover first writes all of ours to
// the kernel, and then removes those rules. Their connections go on: conntrack remembers the endpoints.
package takeover

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NFTable is the table of kube-proxy's nftables mode, one for each family.
const NFTable = "kube-proxy"

// KubeProxy knows kube-proxy's rules from ours.
type KubeProxy struct{}

// OnlyIts reports whether a chain of that name is kube-proxy's, of its iptables mode, and not ours in any table.
// kubelet's are not: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, and KUBE-MARK-DROP.
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

// Left reports whether a chain, or a table of nftables, is kube-proxy's and useless to us. Our KUBE-SERVICES is not in
// filter.
func (KubeProxy) Left(k state.ChainKey) bool {
	switch {
	case k.Table == state.NFTables:
		return k.Name == NFTable
	case k.Table.Firewall() == state.OnNFTables: // in our own table nothing is kube-proxy's
		return false
	}
	return OnlyIts(k.Name) || k.Table == state.Filter && k.Name == state.ChainServices
}

// Interim returns a chain's content until virtual servers and addresses can do its work; false: the chain does no such
// work. have is how kube-proxy left it, or an earlier result; want is the final content.
//
// Rules that mark packets for masquerade come first. As soon as Service addresses are local, they are the source of the
// node's own packets to them, and kube-proxy would not masquerade those if it cannot recognize pods. So do rules that
// lead from Service addresses to all endpoints: an IPv6 address is a source before it is local, and kube-proxy
// recognizes the node by a local source.
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

// leads reports whether a rule of ours leads from Service addresses to all endpoints. From the node's own addresses
// packets are led to an address that is written last, so these rules must wait.
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

// Serving returns the families in which kube-proxy's iptables mode sends packets to endpoints, by the chains of a
// kernel.
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

// Predecessors knows the rules of programs that may have served the node before: of kube-proxy, and of older versions
// of ours. Those led packets to virtual servers by marks. While rules set such marks, the virtual servers must take new
// connections and the rules that match the marks must stay. So none of them changes or goes before all else is in the
// kernel.
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

// refuses reports whether a rule drops packets where only other nodes have endpoints. Clients in the cluster get those
// endpoints once they are led there. Until then, unknown rules may send them there.
func refuses(rule string) bool { return strings.Contains(rule, "-NO-LOCAL dst,dst -j DROP") }

// knowsMarks reports whether a rule sets or matches a mark by which an older version of ours knew a virtual server.
func knowsMarks(rule string) bool {
	return strings.Contains(rule, "--map-mark") || strings.Contains(rule, fmt.Sprintf("--mark %#x/%#x", state.MarkValue, state.MarkMask))
}

// Flows returns all that kube-proxy's rules of iptables mode can have sent on, over protocols without an end of
// connections: a client that keeps its port keeps its endpoint. local are the node's own addresses, at which NodePorts
// are.
func (KubeProxy) Flows(chains map[state.ChainKey]state.Chain, local []netip.Addr) []state.Flow {
	var flows []state.Flow
	for _, f := range Serving(chains) {
		w := way{family: f, chains: chains, local: local, below: map[string][]netip.AddrPort{}}
		w.follow(state.ChainServices)
		w.follow(state.ChainNodePorts)
		flows = append(flows, w.flows...)
	}
	return flows
}

// way is what leads from Service addresses to endpoints.
type way struct {
	family state.Family
	chains map[state.ChainKey]state.Chain
	local  []netip.Addr
	below  map[string][]netip.AddrPort // the endpoints behind a chain
	flows  []state.Flow
}

func (w *way) rules(chain string) []string {
	return w.chains[state.ChainKey{Family: w.family, Table: state.NAT, Name: chain}].Lines()
}

// follow adds the flows from a chain that all Services share.
func (w *way) follow(chain string) {
	for _, rule := range w.rules(chain) {
		protocol, err := state.ParseProtocol(option(rule, "-p"))
		if err != nil || protocol == state.TCP || !perService(target(rule)) {
			continue
		}
		port, err := strconv.ParseUint(option(rule, "--dport"), 10, 16)
		if err != nil {
			continue
		}
		for _, front := range w.fronts(rule, uint16(port)) {
			for _, to := range w.endpoints(target(rule)) {
				w.flows = append(w.flows, state.Flow{Protocol: protocol, Service: front, Endpoint: to})
			}
		}
	}
}

// fronts returns the addresses at which clients meet a rule.
func (w *way) fronts(rule string, port uint16) []netip.AddrPort {
	at := w.local
	if p, err := netip.ParsePrefix(option(rule, "-d")); err == nil {
		at = []netip.Addr{p.Addr()}
	}
	var list []netip.AddrPort
	for _, a := range at {
		if state.FamilyOf(a) == w.family {
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	return list
}

// endpoints returns those behind a chain.
func (w *way) endpoints(chain string) []netip.AddrPort {
	if list, known := w.below[chain]; known {
		return list
	}
	w.below[chain] = nil // ends circles
	var list []netip.AddrPort
	for _, rule := range w.rules(chain) {
		if to, err := netip.ParseAddrPort(option(rule, "--to-destination")); err == nil {
			list = append(list, to)
		} else if next := target(rule); perService(next) {
			list = append(list, w.endpoints(next)...)
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	list = slices.Compact(list)
	w.below[chain] = list
	return list
}

// option returns the word after an option of a rule.
func option(rule, name string) string {
	words := strings.Fields(rule)
	for i, word := range words[:max(0, len(words)-1)] {
		if word == name && (i == 0 || words[i-1] != "!") {
			return words[i+1]
		}
	}
	return ""
}
