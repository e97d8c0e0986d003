// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// chain is one of our chains.
//
// Every rule always exists, even if its set is empty: then it matches nothing. So chains change with the configuration
// alone, never with a Service. (kube-proxy writes most rules only once their set has an entry.)
type chain struct {
	table state.RuleTable
	name  string
	rules []rule.Rule
}

// row is the chain as it is stored.
func (ch chain) row(f state.Family) state.Chain {
	var lines []string
	for _, r := range ch.rules {
		lines = append(lines, r.Text(f))
	}
	return state.ChainOf(lines...)
}

// firewall has the rules of one family.
type firewall struct {
	family state.Family
	config config.Config
}

// The words of most rules.
const (
	tcp  = rule.Proto(state.TCP)
	udp  = rule.Proto(state.UDP)
	sctp = rule.Proto(state.SCTP)

	isNew    = rule.Tracked(rule.New)
	fromNode = rule.Local(rule.Source)
	toNode   = rule.Local(rule.Destination)

	markMasq = rule.Jump(state.ChainMarkMasq)
)

// in matches a packet of which some parts are in a set.
func (w firewall) in(n state.SetName, of rule.Parts) rule.Member {
	return rule.Member{Set: n.For(w.family).On(w.config.Firewall), Of: of}
}

// notIn matches all other packets.
func (w firewall) notIn(n state.SetName, of rule.Parts) rule.Member {
	m := w.in(n, of)
	m.Not = true
	return m
}

// named is in, with kube-proxy's comment in front.
func (w firewall) named(n state.SetName, of rule.Parts) []rule.Match {
	return []rule.Match{about(n), w.in(n, of)}
}

// about is kube-proxy's comment of the rules that look into a set.
func about(n state.SetName) rule.About {
	i := slices.IndexFunc(sets(), func(s set) bool { return s.name == n })
	return rule.About(sets()[i].about)
}

// masqueradeMark matches packets that are to be masqueraded.
func (w firewall) masqueradeMark() rule.Marked {
	return rule.Marked{Value: w.config.Mark(), Mask: w.config.Mark()}
}

// chains returns all of them.
func (w firewall) chains() []chain {
	return slices.Concat(w.mangleChains(), w.natChains(), w.filterChains())
}

// natChains decide what is masqueraded. Marking is for PREROUTING and OUTPUT, where packets still have the destination
// that the client chose.
func (w firewall) natChains() []chain {
	unmarked, mark := w.masqueradeMark(), w.config.Mark()
	unmarked.Not = true
	noHairpin := w.notIn(state.SetLoopBack, rule.ToPortFrom)
	return append(w.insideChains(), []chain{
		{state.NAT, state.ChainServices, w.services()},
		{state.NAT, state.ChainLoadBalancer, []rule.Rule{
			// externalTrafficPolicy Local keeps the client address.
			rule.When(w.named(state.SetLoadBalancerLocal, rule.ToPort)...).Then(rule.Return),
			// The endpoint may be on another node. Its answer must come back through this one.
			rule.Always().Then(markMasq),
		}},
		{state.NAT, state.ChainNodePort, []rule.Rule{
			// The same two steps as for load balancers, by protocol: the sets of TCP and UDP hold bare port numbers.
			rule.When(tcp).And(w.named(state.SetNodePortLocalTCP, rule.To)...).Then(rule.Return),
			rule.When(tcp).And(w.named(state.SetNodePortTCP, rule.To)...).Then(markMasq),
			rule.When(udp).And(w.named(state.SetNodePortLocalUDP, rule.To)...).Then(rule.Return),
			rule.When(udp).And(w.named(state.SetNodePortUDP, rule.To)...).Then(markMasq),
			rule.When(sctp).And(w.named(state.SetNodePortLocalSCTP, rule.ToPort)...).Then(rule.Return),
			rule.When(sctp).And(w.named(state.SetNodePortSCTP, rule.ToPort)...).Then(markMasq),
		}},
		{state.NAT, state.ChainMarkMasq, []rule.Rule{
			// One bit, so that other users of the mark keep theirs.
			rule.Always().Then(rule.Mark{Value: mark, Mask: mark}),
		}},
		{state.NAT, state.ChainPostrouting, append([]rule.Rule{
			// Unmarked packets are not for us, except hairpins: an endpoint that reached itself would see its own
			// address as the client's, and answer itself instead of the Service address.
			rule.When(about(state.SetLoopBack), noHairpin, unmarked).Then(rule.Return),
			// Without the mark, the packet is not masqueraded again after an overlay's encapsulation.
			rule.Always().Then(rule.Mark{Value: mark}),
		}, masquerade(w.config.NodePortRange)...)},
	}...)
}

// services are the rules for packets that enter, from elsewhere or from the node itself.
func (w firewall) services() []rule.Rule {
	rules := []rule.Rule{
		// The node's traffic to itself is no Service traffic: IPVS cannot send from 127.0.0.0/8 to other hosts.
		rule.When(rule.In{Side: rule.Source, Network: loopback(w.family)}).Then(rule.Return),
		// Frontends with two groups of clients.
		rule.When(w.named(state.SetInside, rule.ToPort)...).Then(rule.Jump(state.ChainInside)),
		rule.When(w.named(state.SetInsideNode, rule.ToPort)...).Then(rule.Jump(state.ChainInside)),
		// Load balancer addresses: the chain marks packets unless the client keeps its address.
		rule.When(w.named(state.SetLoadBalancer, rule.ToPort)...).Then(rule.Jump(state.ChainLoadBalancer)),
		// Cluster IPs: marked if the client is elsewhere.
		w.clusterIPMasquerade(),
		// External IPs: the client is elsewhere, and the endpoint may be.
		rule.When(w.named(state.SetExternalIP, rule.ToPort)...).Then(markMasq),
	}
	if w.config.JoinsPorts() {
		// IPVS gets packets to the virtual servers for all ports of a Service only at an address that this node has.
		rules = append(rules, rule.When(w.named(state.SetAllPorts, rule.ToPort)...).And(toNode).Then(rule.Join{}))
	}
	return append(rules, []rule.Rule{
		// Decided packets leave the table, so that later rules, such as a CNI's port mapping, cannot redirect them.
		// An external IP is a Service's only while this node has it. (kube-proxy has two more rules, -m physdev, for
		// packets that don't come over a bridge; they accept what these accept.)
		rule.When(w.named(state.SetExternalIP, rule.ToPort)...).And(toNode).Then(rule.Accept),
		rule.When(w.named(state.SetExternalIPLocal, rule.ToPort)...).And(toNode).Then(rule.Accept),
		rule.When(w.in(state.SetClusterIP, rule.ToPort)).Then(rule.Accept),
		rule.When(w.in(state.SetLoadBalancer, rule.ToPort)).Then(rule.Accept),
		// NodePorts come last, unlike kube-proxy's: their sets know only the port, and a Service address may have the
		// same port with a client address to keep.
		rule.When(toNode).Then(rule.Jump(state.ChainNodePort)),
	}...)
}

// clusterIPMasquerade is for traffic to cluster IPs that is not from this node's pods. Unmasqueraded, the answer would
// go straight to the client, from an address that it did not ask; so it must come back here.
func (w firewall) clusterIPMasquerade() rule.Rule {
	toClusterIP := w.named(state.SetClusterIP, rule.ToPort)
	if w.config.MasqueradeAll {
		return rule.When(toClusterIP...).Then(markMasq)
	}
	if others := w.pods(false); others != nil {
		return rule.When(others).And(toClusterIP...).Then(markMasq)
	}
	// Pods are not recognized. But a source that is itself a Service address is the node's, which got it from
	// DummyLink; and if Service addresses are routed, so is a source that is one of the node's own.
	if w.config.VIPBinding == config.RouteBinding {
		return rule.When(fromNode).And(toClusterIP...).Then(markMasq)
	}
	return rule.When(w.named(state.SetClusterIP, rule.FromPort)...).Then(markMasq)
}

// insideChains send clients in the cluster to all endpoints, even if clients outside get only those on this node.
// Conntrack undoes that for the answers. Conntrack also sends all later packets of a connection straight to the
// endpoint, which IPVS has put into its entry.
func (w firewall) insideChains() []chain {
	const allEndpoints = rule.Jump(state.ChainAllEndpoints)
	fromService := w.in(state.SetIPVSIPs, rule.From)
	inside := []rule.Rule{
		// The node's own source may be a Service address, and the endpoint elsewhere.
		rule.When(fromNode).Then(markMasq),
		rule.When(fromNode).Then(allEndpoints),
		// An IPv6 address that another program assigns with nodad is a source at once, and local a moment later.
		rule.When(fromService).Then(markMasq),
		rule.When(fromService).Then(allEndpoints),
	}
	if pods := w.pods(true); pods != nil {
		// IPVS gets their packets only at an address that this node has.
		inside = append(inside, rule.When(pods, toNode).Then(allEndpoints))
	}
	var all []rule.Rule
	if w.config.ShiftsPorts() {
		for _, protocol := range []rule.Proto{tcp, udp, sctp} { // a rule that moves ports must name one
			all = append(all, rule.When(protocol, w.in(state.SetInside, rule.ToPort)).Then(rule.ShiftPort{}))
		}
	}
	toInside := rule.Redirect(state.InsideAddress(w.family))
	all = append(all, rule.When(w.in(state.SetInsideNode, rule.ToPort)).Then(toInside))
	return []chain{{state.NAT, state.ChainInside, inside}, {state.NAT, state.ChainAllEndpoints, all}}
}

// NetmapRule returns a rule with the target NETMAP, which one affinity over all ports needs.
func NetmapRule(f state.Family) string { return rule.Always().Then(rule.Join{}).Text(f) }

// masquerade takes random source ports. The kernel's first choice, the same port, is a race that loses UDP packets, and
// so DNS answers. None is a NodePort: an answer to a NodePort as source port would look like a request from the other
// side.
func masquerade(nodePorts config.PortRange) []rule.Rule {
	const about = rule.About("kubernetes service traffic requiring SNAT")
	var rules []rule.Rule
	if nodePorts.First > 0 {
		const lowest, highest = 1024, 65535
		ports := rule.Masquerade{First: lowest, Last: nodePorts.First - 1}
		if highest-int(nodePorts.Last) > int(ports.Last)-lowest {
			ports = rule.Masquerade{First: nodePorts.Last + 1, Last: highest}
		}
		for _, protocol := range []rule.Proto{tcp, udp, sctp} {
			rules = append(rules, rule.When(protocol, about).Then(ports))
		}
	}
	return append(rules, rule.When(about).Then(rule.Masquerade{}))
}

// mangleChains come before IPVS, which takes the node's own packets early in OUTPUT.
func (w firewall) mangleChains() []chain {
	return []chain{
		{state.Mangle, state.ChainOutput, []rule.Rule{
			// The firewall in INPUT does not see the node's own packets to a load balancer: IPVS has taken them before.
			w.guarded(),
			// Only destination NAT, which comes later, leads to these.
			rule.When(isNew).And(w.named(state.SetServers, rule.ToPort)...).Then(rule.Drop),
			// Clients that get all endpoints need no local ones.
			rule.When(w.in(state.SetInside, rule.ToPort)).Then(rule.Return),
			rule.When(w.in(state.SetInsideNode, rule.ToPort)).Then(rule.Return),
			w.noLocal(),
		}},
		{state.Mangle, state.ChainSourceRanges, w.sourceRanges()},
	}
}

// guarded asks the source ranges of a load balancer address that has some. Only for new connections: existing ones
// outlive a change of the ranges.
func (w firewall) guarded() rule.Rule {
	return rule.When(isNew).And(w.named(state.SetLoadBalancerFW, rule.ToPort)...).Then(rule.Jump(state.ChainSourceRanges))
}

// noLocal gives no answer where another node may have endpoints. Only for new connections: one may outlive its
// endpoint's readiness.
func (w firewall) noLocal() rule.Rule {
	return rule.When(isNew).And(w.named(state.SetNoLocal, rule.ToPort)...).Then(rule.Drop)
}

// sourceRanges returns the rules for clients of a load balancer with source ranges.
func (w firewall) sourceRanges() []rule.Rule {
	return []rule.Rule{
		// A client in the ranges.
		rule.When(w.named(state.SetLoadBalancerSourceCIDR, rule.ToPortFrom)...).Then(rule.Return),
		// The node itself, if it is in the ranges: the source of its packets to a Service address is that address,
		// unless a route names another.
		rule.When(w.named(state.SetLoadBalancerSourceIP, rule.ToPortFrom)...).Then(rule.Return),
		// All others. No answer, as with a cloud's load balancer.
		rule.Always().Then(rule.Drop),
	}
}

// filterChains decide what is let in and forwarded.
func (w firewall) filterChains() []chain {
	return []chain{
		{state.Filter, state.ChainForward, append(w.unallocated(), []rule.Rule{
			// Marked packets are Service traffic, which Services let through.
			rule.When(rule.About("kubernetes forwarding rules"), w.masqueradeMark()).Then(rule.Accept),
			// Its answers carry no mark.
			rule.When(rule.About("kubernetes forwarding conntrack rule"), rule.Tracked(rule.Established)).Then(rule.Accept),
		}...)},
		{state.Filter, state.ChainNodePort, []rule.Rule{
			// Health checks of load balancers pass the node's own firewall. They use HTTP. (kube-proxy lets UDP in as
			// well.)
			rule.When(tcp).And(w.named(state.SetHealthCheckNodePort, rule.To)...).Then(rule.Accept),
		}},
		{state.Filter, state.ChainFirewall, []rule.Rule{
			// Load balancer addresses with spec.loadBalancerSourceRanges.
			w.guarded(),
		}},
		{state.Filter, state.ChainSourceRanges, w.sourceRanges()},
		{state.Filter, state.ChainIPVSFilter, w.serviceFilter()},
		{state.Filter, state.ChainIPVSOut, w.unallocated()},
	}
}

// serviceFilter lets in what is for a Service, and keeps other packets from the addresses of Services.
func (w firewall) serviceFilter() []rule.Rule {
	toService := w.in(state.SetIPVSIPs, rule.To)
	return slices.Concat([]rule.Rule{
		// What is refused to clients comes before what is let in.
		rule.Always().Then(rule.Jump(state.ChainFirewall)),
		w.noLocal(),
		// The ports of Services, at their addresses. IPVS takes packets in INPUT, which the host's firewall guards for
		// the host; Services are not part of it. (kube-proxy's other modes take them in PREROUTING, and its IPVS mode
		// leaves them to that firewall.)
		rule.When(w.in(state.SetLoadBalancer, rule.ToPort)).Then(rule.Accept),
		rule.When(w.in(state.SetClusterIP, rule.ToPort)).Then(rule.Accept),
		rule.When(w.in(state.SetExternalIP, rule.ToPort)).Then(rule.Accept),
		rule.When(w.in(state.SetExternalIPLocal, rule.ToPort)).Then(rule.Accept),
		// Derived virtual servers, only for packets that were led to them.
		rule.When(w.in(state.SetServers, rule.ToPort), rule.Tracked(rule.Translated)).Then(rule.Accept),
		// Load balancers may check health at a Service address. They use HTTP.
		rule.When(tcp, w.in(state.SetHealthCheckNodePort, rule.To)).Then(rule.Return),
	}, w.healthz(), w.ping(), []rule.Rule{
		// Service addresses are local, so whatever listens at any address of the node would be at every one of them
		// (kubernetes#72236). Echo requests too: a Service address is no host. Only new connections: existing ones
		// outlive their Service.
		rule.When(isNew, toService).Then(rule.Refuse),
		// NodePorts, which are at the node's own addresses.
		rule.When(tcp, w.in(state.SetNodePortTCP, rule.To), w.in(state.SetNodeIPs, rule.To)).Then(rule.Accept),
		rule.When(udp, w.in(state.SetNodePortUDP, rule.To), w.in(state.SetNodeIPs, rule.To)).Then(rule.Accept),
		rule.When(w.in(state.SetNodePortSCTP, rule.ToPort)).Then(rule.Accept),
	})
}

// unallocated drops packets to cluster IPs without a Service. Otherwise they would leave the node by the default route,
// and perhaps come back.
func (w firewall) unallocated() []rule.Rule {
	var rules []rule.Rule
	for _, p := range w.config.ServiceCIDRs {
		if state.FamilyOf(p.Addr()) == w.family {
			toNetwork := rule.In{Side: rule.Destination, Network: p.Masked()}
			rules = append(rules, rule.When(toNetwork, isNew, w.notIn(state.SetIPVSIPs, rule.To)).Then(rule.Drop))
		}
	}
	return rules
}

// healthz lets load balancers ask for the proxy's own health at Service addresses too, if it is served at all
// addresses: some keep their address in the packet. The host's firewall decides next.
func (w firewall) healthz() []rule.Rule {
	at := w.config.Serving.Healthz
	if !at.IsValid() || !at.Addr().IsUnspecified() {
		return nil
	}
	return []rule.Rule{rule.When(tcp, rule.Port(at.Port()), w.in(state.SetIPVSIPs, rule.To)).Then(rule.Return)}
}

// ping leaves echo requests to the host's firewall, if the node is to answer them.
func (w firewall) ping() []rule.Rule {
	if !w.config.AnswerPing {
		return nil
	}
	return []rule.Rule{rule.When(rule.EchoRequest{}, w.in(state.SetIPVSIPs, rule.To)).Then(rule.Return)}
}

// pods matches packets from this node's pods or, if not these, all others; nil if the detector recognizes none of the
// family.
func (w firewall) pods(these bool) rule.Match {
	switch d := w.config.LocalDetector; d.Kind {
	case config.DetectCIDR:
		i := slices.IndexFunc(d.CIDRs, func(p netip.Prefix) bool { return state.FamilyOf(p.Addr()) == w.family })
		if i >= 0 {
			return rule.In{Side: rule.Source, Network: d.CIDRs[i].Masked(), Not: !these}
		}
	case config.DetectBridge:
		return rule.Via{Interface: d.Interface, Not: !these}
	case config.DetectPrefix:
		return rule.Via{Interface: d.Interface, Begins: true, Not: !these}
	}
	return nil
}

func loopback(f state.Family) netip.Prefix {
	if f == state.IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}
