// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// chain is one of our chains. Its rules are in iptables-save's spelling, with the words of vocabulary.
//
// Every rule always exists, even if its set is empty: then it matches nothing. So chains change with the configuration
// alone, never with a Service. (kube-proxy writes most rules only once their set has an entry.)
type chain struct {
	table state.RuleTable
	name  string
	rules []string
}

// natChains decide what is masqueraded. Marking is for PREROUTING and OUTPUT, where packets still have the destination
// that the client chose.
func natChains(f state.Family, c config.Config) []chain {
	return append(insideChains(f, c), []chain{
		{state.NAT, state.ChainServices, slices.Concat([]string{
			// The node's traffic to itself is no Service traffic: IPVS cannot send from 127.0.0.0/8 to other hosts.
			`-s {loopback} -j RETURN`,
			// Frontends with two groups of clients.
			`[KUBE-INSIDE] dst,dst -j KUBE-INSIDE`,
			`[KUBE-INSIDE-NODE] dst,dst -j KUBE-INSIDE`,
			// Load balancer addresses: the chain marks packets unless the client keeps its address.
			`[KUBE-LOAD-BALANCER] dst,dst -j KUBE-LOAD-BALANCER`,
			// Cluster IPs: marked if the client is elsewhere.
			clusterIPMasquerade(f, c),
			// External IPs: the client is elsewhere, and the endpoint may be.
			`[KUBE-EXTERNAL-IP] dst,dst -j KUBE-MARK-MASQ`,
			// IPVS gets packets to the virtual servers for all ports of a Service only at an address that this node
			// has.
		}, optional(!c.Kernel.NoNetmap, `[KUBE-ALL-PORTS] dst,dst -m addrtype --dst-type LOCAL {netmap}`), []string{
			// Decided packets leave the table, so that later rules, such as a CNI's port mapping, cannot redirect them.
			// An external IP is a Service's only while this node has it. (kube-proxy has two more rules, -m physdev,
			// for packets that don't come over a bridge; they accept what these accept.)
			`[KUBE-EXTERNAL-IP] dst,dst -m addrtype --dst-type LOCAL -j ACCEPT`,
			`[KUBE-EXTERNAL-IP-LOCAL] dst,dst -m addrtype --dst-type LOCAL -j ACCEPT`,
			`{KUBE-CLUSTER-IP} dst,dst -j ACCEPT`,
			`{KUBE-LOAD-BALANCER} dst,dst -j ACCEPT`,
			// NodePorts come last, unlike kube-proxy's: their sets know only the port, and a Service address may have
			// the same port with a client address to keep.
			`-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT`,
		})},
		{state.NAT, state.ChainLoadBalancer, []string{
			// externalTrafficPolicy Local keeps the client address.
			`[KUBE-LOAD-BALANCER-LOCAL] dst,dst -j RETURN`,
			// The endpoint may be on another node. Its answer must come back through this one.
			`-j KUBE-MARK-MASQ`,
		}},
		{state.NAT, state.ChainNodePort, []string{
			// The same two steps as for load balancers, by protocol: the sets of TCP and UDP hold bare port numbers.
			`-p tcp [KUBE-NODE-PORT-LOCAL-TCP] dst -j RETURN`,
			`-p tcp [KUBE-NODE-PORT-TCP] dst -j KUBE-MARK-MASQ`,
			`-p udp [KUBE-NODE-PORT-LOCAL-UDP] dst -j RETURN`,
			`-p udp [KUBE-NODE-PORT-UDP] dst -j KUBE-MARK-MASQ`,
			`-p sctp [KUBE-NODE-PORT-LOCAL-SCTP-HASH] dst,dst -j RETURN`,
			`-p sctp [KUBE-NODE-PORT-SCTP-HASH] dst,dst -j KUBE-MARK-MASQ`,
		}},
		{state.NAT, state.ChainMarkMasq, []string{
			// One bit, so that other users of the mark keep theirs.
			`-j MARK --set-xmark {mark}/{mark}`,
		}},
		{state.NAT, state.ChainPostrouting, slices.Concat([]string{
			// Unmarked packets are not for us, except hairpins: an endpoint that reached itself would see its own
			// address as the client's, and answer itself instead of the Service address.
			`[!KUBE-LOOP-BACK] dst,dst,src -m mark ! --mark {mark}/{mark} -j RETURN`,
			// Without the mark, the packet is not masqueraded again after an overlay's encapsulation.
			`-j MARK --set-xmark {mark}/0x0`,
		}, masquerade(c.NodePortRange))},
	}...)
}

// insideChains send clients in the cluster to all endpoints, even if clients outside get only those on this node.
// Conntrack undoes that for the answers. Conntrack also sends all later packets of a connection straight to the
// endpoint, which IPVS has put into its entry.
func insideChains(f state.Family, c config.Config) []chain {
	inside := []string{
		// The node's own source may be a Service address, and the endpoint elsewhere.
		`-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`,
		`-m addrtype --src-type LOCAL -j KUBE-ALL-ENDPOINTS`,
		// An IPv6 address that another program assigns with nodad is a source at once, and local a moment later.
		`{KUBE-IPVS-IPS} src -j KUBE-MARK-MASQ`,
		`{KUBE-IPVS-IPS} src -j KUBE-ALL-ENDPOINTS`,
	}
	if pods := local(f, c.LocalDetector); pods != "" {
		// IPVS gets their packets only at an address that this node has.
		inside = append(inside, pods+` -m addrtype --dst-type LOCAL -j KUBE-ALL-ENDPOINTS`)
	}
	var all []string
	if c.Kernel.ShiftsPorts() {
		for _, protocol := range []string{"tcp", "udp", "sctp"} { // a rule that moves ports must name one
			all = append(all, `-p `+protocol+` {KUBE-INSIDE} dst,dst -j DNAT --to-destination {shifted}`)
		}
	}
	all = append(all, `{KUBE-INSIDE-NODE} dst,dst -j DNAT --to-destination {inside}`)
	return []chain{{state.NAT, state.ChainInside, inside}, {state.NAT, state.ChainAllEndpoints, all}}
}

// NetmapRule returns a rule with the target NETMAP, which one affinity over all ports needs.
func NetmapRule(f state.Family) string { return "-j NETMAP --to " + state.JoinedNetwork(f).String() }

// optional returns a rule if it is wanted.
func optional(wanted bool, rule string) []string {
	if !wanted {
		return nil
	}
	return []string{rule}
}

// masquerade takes random source ports. The kernel's first choice, the same port, is a race that loses UDP packets, and
// so DNS answers. None is a NodePort: an answer to a NodePort as source port would look like a request from the other
// side.
func masquerade(nodePorts config.PortRange) []string {
	const about = `-m comment --comment "kubernetes service traffic requiring SNAT" `
	var rules []string
	if nodePorts.First > 0 {
		const lowest, highest = 1024, 65535
		first, last := lowest, int(nodePorts.First)-1
		if highest-int(nodePorts.Last) > last-first {
			first, last = int(nodePorts.Last)+1, highest
		}
		for _, protocol := range []string{"tcp", "udp", "sctp"} {
			rules = append(rules, fmt.Sprintf("-p %s %s-j MASQUERADE --to-ports %d-%d --random-fully", protocol, about, first, last))
		}
	}
	return append(rules, about+`-j MASQUERADE --random-fully`)
}

// mangleChains come before IPVS, which takes the node's own packets early in OUTPUT.
func mangleChains() []chain {
	return []chain{
		{state.Mangle, state.ChainOutput, []string{
			// The firewall in INPUT does not see the node's own packets to a load balancer: IPVS has taken them before.
			`-m conntrack --ctstate NEW [KUBE-LOAD-BALANCER-FW] dst,dst -j KUBE-SOURCE-RANGES-FIREWALL`,
			// Only destination NAT, which comes later, leads to these.
			`-m conntrack --ctstate NEW [KUBE-IPVS-SERVERS] dst,dst -j DROP`,
			// Clients that get all endpoints need no local ones.
			`{KUBE-INSIDE} dst,dst -j RETURN`,
			`{KUBE-INSIDE-NODE} dst,dst -j RETURN`,
			noLocal,
		}},
		{state.Mangle, state.ChainSourceRanges, sourceRanges()},
	}
}

// noLocal gives no answer where another node may have endpoints. Only for new connections: one may outlive its
// endpoint's readiness.
const noLocal = `-m conntrack --ctstate NEW [KUBE-NO-LOCAL] dst,dst -j DROP`

// sourceRanges returns the rules for clients of a load balancer with source ranges.
func sourceRanges() []string {
	return []string{
		// A client in the ranges.
		`[KUBE-LOAD-BALANCER-SOURCE-CIDR] dst,dst,src -j RETURN`,
		// The node itself, if it is in the ranges: the source of its packets to a Service address is that address,
		// unless a route names another.
		`[KUBE-LOAD-BALANCER-SOURCE-IP] dst,dst,src -j RETURN`,
		// All others. No answer, as with a cloud's load balancer.
		`-j DROP`,
	}
}

// filterChains decide what is let in and forwarded.
func filterChains(healthz, ping, unallocated []string) []chain {
	return []chain{
		{state.Filter, state.ChainForward, slices.Concat(unallocated, []string{
			// Marked packets are Service traffic, which Services let through.
			`-m comment --comment "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT`,
			// Its answers carry no mark.
			`-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		})},
		{state.Filter, state.ChainNodePort, []string{
			// Health checks of load balancers pass the node's own firewall. They use HTTP. (kube-proxy lets UDP in as
			// well.)
			`-p tcp [KUBE-HEALTH-CHECK-NODE-PORT] dst -j ACCEPT`,
		}},
		{state.Filter, state.ChainFirewall, []string{
			// Load balancer addresses with spec.loadBalancerSourceRanges. Only new connections: existing ones outlive a
			// change of the ranges.
			`-m conntrack --ctstate NEW [KUBE-LOAD-BALANCER-FW] dst,dst -j KUBE-SOURCE-RANGES-FIREWALL`,
		}},
		{state.Filter, state.ChainSourceRanges, sourceRanges()},
		{state.Filter, state.ChainIPVSFilter, slices.Concat([]string{
			// What is refused to clients comes before what is let in.
			`-j KUBE-PROXY-FIREWALL`,
			noLocal,
			// The ports of Services, at their addresses. IPVS takes packets in INPUT, which the host's firewall guards
			// for the host; Services are not part of it. (kube-proxy's other modes take them in PREROUTING, and its
			// IPVS mode leaves them to that firewall.)
			`{KUBE-LOAD-BALANCER} dst,dst -j ACCEPT`,
			`{KUBE-CLUSTER-IP} dst,dst -j ACCEPT`,
			`{KUBE-EXTERNAL-IP} dst,dst -j ACCEPT`,
			`{KUBE-EXTERNAL-IP-LOCAL} dst,dst -j ACCEPT`,
			// Derived virtual servers, only for packets that were led to them.
			`{KUBE-IPVS-SERVERS} dst,dst -m conntrack --ctstate DNAT -j ACCEPT`,
			// Load balancers may check health at a Service address.
			`{KUBE-HEALTH-CHECK-NODE-PORT} dst -j RETURN`,
		}, healthz, ping, []string{
			// Service addresses are local, so whatever listens at any address of the node would be at every one of them
			// (kubernetes#72236). Echo requests too: a Service address is no host. Only new connections: existing ones
			// outlive their Service.
			`-m conntrack --ctstate NEW {KUBE-IPVS-IPS} dst -j REJECT --reject-with {unreachable}`,
			// NodePorts, which are at the node's own addresses.
			`-p tcp {KUBE-NODE-PORT-TCP} dst {KUBE-NODE-IPS} dst -j ACCEPT`,
			`-p udp {KUBE-NODE-PORT-UDP} dst {KUBE-NODE-IPS} dst -j ACCEPT`,
			`{KUBE-NODE-PORT-SCTP-HASH} dst,dst -j ACCEPT`,
		})},
		{state.Filter, state.ChainIPVSOut, unallocated},
	}
}

// unallocated drops packets to cluster IPs without a Service. Otherwise they would leave the node by the default route,
// and perhaps come back.
func unallocated(f state.Family, c config.Config) []string {
	var rules []string
	for _, p := range c.ServiceCIDRs {
		if state.FamilyOf(p.Addr()) == f {
			rules = append(rules, "-d "+p.Masked().String()+` -m conntrack --ctstate NEW {!KUBE-IPVS-IPS} dst -j DROP`)
		}
	}
	return rules
}

// healthz lets load balancers ask for the proxy's own health at Service addresses too, if it is served at all
// addresses: some keep their address in the packet. The host's firewall decides next.
func healthz(c config.Config) []string {
	at := c.Serving.Healthz
	everywhere := at.IsValid() && at.Addr().IsUnspecified()
	return optional(everywhere, fmt.Sprintf(`-p tcp -m tcp --dport %d {KUBE-IPVS-IPS} dst -j RETURN`, at.Port()))
}
