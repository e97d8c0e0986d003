// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// chain is one of our chains and its rules, in iptables-save's spelling but for the words of vocabulary.
type chain struct {
	table state.RuleTable
	name  string
	rules []string
}

// Every rule is always there, also if its set is empty: it matches nothing then, and the chains change with
// the configuration alone, never with a Service. (kube-proxy writes most rules only once their set has an
// entry.)

// natChains decide what is masqueraded. Marking is for PREROUTING and OUTPUT, which know the address that the
// client asked for.
func natChains(f state.Family, c config.Config) []chain {
	return append(insideChains(f, c), []chain{
		{state.NAT, chainServices, slices.Concat([]string{
			// The node's talk with itself is no Service traffic: IPVS can't send from 127.0.0.0/8 to another
			// host.
			`-s {loopback} -j RETURN`,
			// Frontends with two groups of clients.
			`[KUBE-INSIDE] dst,dst -j KUBE-INSIDE`,
			`[KUBE-INSIDE-NODE] dst,dst -j KUBE-INSIDE`,
			// Load balancer addresses: marked unless the client address is to be kept, which the chain looks
			// up.
			`[KUBE-LOAD-BALANCER] dst,dst -j KUBE-LOAD-BALANCER`,
			// Cluster IPs: marked if the client is elsewhere.
			clusterIPMasquerade(f, c),
			// External IPs: the client is elsewhere, and the endpoint may be.
			`[KUBE-EXTERNAL-IP] dst,dst -j KUBE-MARK-MASQ`,
		}, allPorts(c), []string{
			// What is decided leaves the table, lest rules after ours, such as a CNI's port mapping, send it
			// elsewhere. An external IP is only a Service's while this node has it. (kube-proxy has a second,
			// -m physdev, rule for each of the two, for packets that don't come over a bridge; it accepts
			// what these accept as well.)
			`[KUBE-EXTERNAL-IP] dst,dst -m addrtype --dst-type LOCAL -j ACCEPT`,
			`[KUBE-EXTERNAL-IP-LOCAL] dst,dst -m addrtype --dst-type LOCAL -j ACCEPT`,
			`{KUBE-CLUSTER-IP} dst,dst -j ACCEPT`,
			`{KUBE-LOAD-BALANCER} dst,dst -j ACCEPT`,
			// NodePorts come last, other than kube-proxy's: their sets know only the port, and a Service
			// address, local too, may have a port of the same number whose client address must be kept.
			`-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT`,
		})},
		{state.NAT, chainLoadBalancer, []string{
			// externalTrafficPolicy Local keeps the client address.
			`[KUBE-LOAD-BALANCER-LOCAL] dst,dst -j RETURN`,
			// The endpoint may be on another node, whose answer has to come back through this one.
			`-j KUBE-MARK-MASQ`,
		}},
		{state.NAT, chainNodePort, []string{
			// The same two steps as for load balancers, by protocol, because the sets of TCP and UDP hold
			// bare port numbers.
			`-p tcp [KUBE-NODE-PORT-LOCAL-TCP] dst -j RETURN`,
			`-p tcp [KUBE-NODE-PORT-TCP] dst -j KUBE-MARK-MASQ`,
			`-p udp [KUBE-NODE-PORT-LOCAL-UDP] dst -j RETURN`,
			`-p udp [KUBE-NODE-PORT-UDP] dst -j KUBE-MARK-MASQ`,
			`-p sctp [KUBE-NODE-PORT-LOCAL-SCTP-HASH] dst,dst -j RETURN`,
			`-p sctp [KUBE-NODE-PORT-SCTP-HASH] dst,dst -j KUBE-MARK-MASQ`,
		}},
		{state.NAT, chainMarkMasq, []string{
			// One bit, so that other users of the mark keep theirs.
			`-j MARK --set-xmark {mark}/{mark}`,
		}},
		{state.NAT, chainPostrouting, slices.Concat([]string{
			// Not marked: not for us. But for a hairpin: an endpoint that reached itself would see its own
			// address as the client's and answer itself, not the VIP.
			`[!KUBE-LOOP-BACK] dst,dst,src -m mark ! --mark {mark}/{mark} -j RETURN`,
			// The mark is taken off, or the packet would be masqueraded once more when it comes out of an
			// overlay's encapsulation.
			`-j MARK --set-xmark {mark}/0x0`,
		}, masquerade(c.NodePortRange))},
	}...)
}

// insideChains send clients in the cluster to where all endpoints are, also if those outside get the ones on
// this node only. Conntrack undoes that for the answers. It also sends all that follows the first packet of a
// connection to the endpoint by itself: IPVS has put that into its entry.
func insideChains(f state.Family, c config.Config) []chain {
	inside := []string{
		// The node's own source may be a Service address, and the endpoint elsewhere.
		`-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`,
		`-m addrtype --src-type LOCAL -j KUBE-ALL-ENDPOINTS`,
		// An IPv6 address that is assigned with nodad, as others may, is a source at once, and local a moment
		// later.
		`{KUBE-IPVS-IPS} src -j KUBE-MARK-MASQ`,
		`{KUBE-IPVS-IPS} src -j KUBE-ALL-ENDPOINTS`,
	}
	if pods := local(f, c.LocalDetector); pods != "" {
		// IPVS gets their packets only at an address that this node has.
		inside = append(inside, pods+` -m addrtype --dst-type LOCAL -j KUBE-ALL-ENDPOINTS`)
	}
	var all []string
	if c.Kernel.ShiftsPorts() {
		for _, protocol := range []string{"tcp", "udp", "sctp"} { // a rule that moves ports names one
			all = append(all, `-p `+protocol+` {KUBE-INSIDE} dst,dst -j DNAT --to-destination {shifted}`)
		}
	}
	all = append(all, `{KUBE-INSIDE-NODE} dst,dst -j DNAT --to-destination {inside}`)
	return []chain{{state.NAT, chainInside, inside}, {state.NAT, chainAllEndpoints, all}}
}

// NetmapRule is a rule that needs the target NETMAP, as allPorts does.
func NetmapRule(f state.Family) string { return "-j NETMAP --to " + state.JoinedNetwork(f).String() }

// allPorts leads to the virtual servers for all ports of a Service. IPVS gets the packets only at an address
// that this node has.
func allPorts(c config.Config) []string {
	if c.Kernel.NoNetmap {
		return nil
	}
	return []string{`[KUBE-ALL-PORTS] dst,dst -m addrtype --dst-type LOCAL {netmap}`}
}

// masquerade takes source ports at random over all ports: the kernel's first choice, the same port, is a race
// that loses packets of UDP, thus of DNS. But none is a NodePort: who sends to it from the other end, as an
// answer, would be taken for its client.
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

// mangleChains come before IPVS, which takes what the node itself sends as early as in OUTPUT.
func mangleChains() []chain {
	return []chain{
		{state.Mangle, chainOutput, []string{
			// The firewall in INPUT does not see the node's own packets to a load balancer: IPVS has sent
			// them on before.
			`-m conntrack --ctstate NEW [KUBE-LOAD-BALANCER-FW] dst,dst -j KUBE-SOURCE-RANGES-FIREWALL`,
			// Only destination NAT, which comes later, leads to these.
			`-m conntrack --ctstate NEW [KUBE-IPVS-SERVERS] dst,dst -j DROP`,
			// Who gets all endpoints needs no local ones.
			`{KUBE-INSIDE} dst,dst -j RETURN`,
			`{KUBE-INSIDE-NODE} dst,dst -j RETURN`,
			noLocal,
		}},
		{state.Mangle, chainSourceRanges, sourceRanges()},
	}
}

// noLocal gives no answer where another node may have endpoints. Only what is new: a connection may outlive
// its endpoint's readiness.
const noLocal = `-m conntrack --ctstate NEW [KUBE-NO-LOCAL] dst,dst -j DROP`

// sourceRanges are the rules for clients of a load balancer that lets not all of them in.
func sourceRanges() []string {
	return []string{
		// A client in the ranges.
		`[KUBE-LOAD-BALANCER-SOURCE-CIDR] dst,dst,src -j RETURN`,
		// The node itself, if it is in the ranges: its packets to a VIP have the VIP as their source, unless
		// a route names another.
		`[KUBE-LOAD-BALANCER-SOURCE-IP] dst,dst,src -j RETURN`,
		// Everybody else. No answer, as with a cloud's load balancer.
		`-j DROP`,
	}
}

// filterChains decide what is let in and forwarded.
func filterChains(healthz, ping, unallocated []string) []chain {
	return []chain{
		{state.Filter, chainForward, slices.Concat(unallocated, []string{
			// What is marked is Service traffic, which Services let through.
			`-m comment --comment "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT`,
			// Its answers carry no mark.
			`-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		})},
		{state.Filter, chainNodePort, []string{
			// Health checks of load balancers get through the node's own firewall. They speak HTTP.
			// (kube-proxy lets UDP in as well.)
			`-p tcp [KUBE-HEALTH-CHECK-NODE-PORT] dst -j ACCEPT`,
		}},
		{state.Filter, chainFirewall, []string{
			// Load balancer addresses with spec.loadBalancerSourceRanges. Only what is new: connections
			// outlive a change of the ranges.
			`-m conntrack --ctstate NEW [KUBE-LOAD-BALANCER-FW] dst,dst -j KUBE-SOURCE-RANGES-FIREWALL`,
		}},
		{state.Filter, chainSourceRanges, sourceRanges()},
		{state.Filter, chainIPVSFilter, slices.Concat([]string{
			// What is refused to clients comes before what is let in.
			`-j KUBE-PROXY-FIREWALL`,
			noLocal,
			// The ports of Services, at their addresses. IPVS takes packets in INPUT, which the host's
			// firewall guards for the host; Services are none of it. (kube-proxy's other modes take them in
			// PREROUTING, and its IPVS mode leaves them to that firewall.)
			`{KUBE-LOAD-BALANCER} dst,dst -j ACCEPT`,
			`{KUBE-CLUSTER-IP} dst,dst -j ACCEPT`,
			`{KUBE-EXTERNAL-IP} dst,dst -j ACCEPT`,
			`{KUBE-EXTERNAL-IP-LOCAL} dst,dst -j ACCEPT`,
			// Virtual servers beside them, only for who was led to them.
			`{KUBE-IPVS-SERVERS} dst,dst -m conntrack --ctstate DNAT -j ACCEPT`,
			// Load balancers may check health at the VIP.
			`{KUBE-HEALTH-CHECK-NODE-PORT} dst -j RETURN`,
		}, healthz, ping, []string{
			// Service addresses are local: whatever the node itself listens on at any address would be at
			// every one of them (kubernetes#72236). This includes echo requests: the VIP is no host. Only
			// what is new: connections outlive their Service.
			`-m conntrack --ctstate NEW {KUBE-IPVS-IPS} dst -j REJECT --reject-with {unreachable}`,
			// NodePorts, which are at the node's own addresses.
			`-p tcp {KUBE-NODE-PORT-TCP} dst {KUBE-NODE-IPS} dst -j ACCEPT`,
			`-p udp {KUBE-NODE-PORT-UDP} dst {KUBE-NODE-IPS} dst -j ACCEPT`,
			`{KUBE-NODE-PORT-SCTP-HASH} dst,dst -j ACCEPT`,
		})},
		{state.Filter, chainIPVSOut, unallocated},
	}
}

// unallocated drops what is sent to cluster IPs that no Service has, lest it leaves the node by the default
// route, and perhaps comes back by it.
func unallocated(f state.Family, c config.Config) []string {
	var rules []string
	for _, p := range c.ServiceCIDRs {
		if state.FamilyOf(p.Addr()) == f {
			rules = append(rules, "-d "+p.Masked().String()+` -m conntrack --ctstate NEW {!KUBE-IPVS-IPS} dst -j DROP`)
		}
	}
	return rules
}

// healthz lets load balancers ask for the proxy's own health at Service addresses too, as some do that leave
// their address in the packet, if it is served at all addresses. What it lets pass is the host's, whose
// firewall decides next.
func healthz(c config.Config) []string {
	at := c.Serving.Healthz
	if !at.IsValid() || !at.Addr().IsUnspecified() {
		return nil
	}
	return []string{fmt.Sprintf(`-p tcp -m tcp --dport %d {KUBE-IPVS-IPS} dst -j RETURN`, at.Port())}
}

// ping lets echo requests to Service addresses pass, if they are to be answered.
func ping(c config.Config) []string {
	if !c.AnswerPing {
		return nil
	}
	return []string{`{echo-request} {KUBE-IPVS-IPS} dst -j RETURN`}
}
