// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Base returns the rows that every node has, with any number of Services.
func Base(c config.Config) Fragment {
	rows := state.New()
	rows.Sysctls = sysctls(c)
	rows.Links[state.DummyLink] = state.Link{Kind: "dummy"}
	for _, f := range c.Families {
		for _, s := range sets() {
			rows.Sets[s.name.For(f)] = s.header(f)
		}
		for _, ch := range chains(f, c) {
			rows.Chains[state.ChainKey{Family: f, Table: ch.table, Name: ch.name}] = state.ChainOf(ch.rules...)
		}
		for _, j := range jumps() {
			k := state.JumpKey{Family: f, Table: j.table, From: j.from, To: j.to}
			rows.Jumps[k] = state.Jump{Rule: about(j.about) + "-j " + j.to}
		}
	}
	return state.FragmentOf(rows, nil)
}

func sysctls(c config.Config) map[state.SysctlName]string {
	s := map[state.SysctlName]string{
		// With 0, IPVS drops the conntrack entry of its packets, and POSTROUTING loses the mark and the source address
		// that it masquerades.
		"net/ipv4/vs/conntrack": "1",
		// A packet of a connection whose real server is gone ends the connection, so that the client tries another one.
		// With 0 the kernel drops such packets until the client gives up.
		"net/ipv4/vs/expire_nodest_conn": "1",
		// Session affinity ends with its endpoint: a client leaves a real server that drains (weight 0).
		"net/ipv4/vs/expire_quiescent_template": "1",
	}
	for _, f := range c.Families {
		// The node routes between its pods and the rest.
		s[forwarding(f)] = "1"
	}
	if c.Kernel.DelaysReuse() {
		s["net/ipv4/vs/conn_reuse_mode"] = "0"
	}
	for name, timeout := range timeouts(c) {
		if seconds := int(timeout / time.Second); seconds > 0 {
			s[name] = strconv.Itoa(seconds)
		}
	}
	if c.Conntrack.TCPBeLiberal {
		// A packet outside of the TCP window still belongs to its connection.
		s["net/netfilter/nf_conntrack_tcp_be_liberal"] = "1"
	}
	if c.StrictARP {
		// A device answers ARP only for its own addresses, and asks only with these: never with DummyLink's.
		s["net/ipv4/conf/all/arp_ignore"] = "1"
		s["net/ipv4/conf/all/arp_announce"] = "2"
	}
	return s
}

// timeouts returns how long the kernel keeps silent connections: IPVS its own, and conntrack those that it masquerades
// or lets through. 0: the kernel's own value.
func timeouts(c config.Config) map[state.SysctlName]time.Duration {
	return map[state.SysctlName]time.Duration{
		state.TCPTimeout:    c.TCPTimeout,
		state.TCPFinTimeout: c.TCPFinTimeout,
		state.UDPTimeout:    c.UDPTimeout,

		"net/netfilter/nf_conntrack_tcp_timeout_established": c.Conntrack.TCPEstablished,
		"net/netfilter/nf_conntrack_tcp_timeout_close_wait":  c.Conntrack.TCPCloseWait,
		"net/netfilter/nf_conntrack_udp_timeout":             c.Conntrack.UDP,
		"net/netfilter/nf_conntrack_udp_timeout_stream":      c.Conntrack.UDPStream,
	}
}

func forwarding(f state.Family) state.SysctlName {
	if f == state.IPv4 {
		return "net/ipv4/ip_forward"
	}
	return "net/ipv6/conf/all/forwarding"
}

// OurChain reports whether a chain of this name is ours, in any table and of any version. kubelet's chains
// (KUBE-FIREWALL, KUBE-KUBELET-CANARY) are not.
func OurChain(name string) bool {
	return slices.Contains([]string{
		state.ChainServices, state.ChainPostrouting, state.ChainNodePort, state.ChainLoadBalancer, state.ChainMarkMasq,
		state.ChainForward, state.ChainFirewall, state.ChainSourceRanges, state.ChainIPVSFilter, state.ChainIPVSOut,
		state.ChainInside, state.ChainAllEndpoints, state.ChainOutput, state.ChainNoLocal, state.ChainTrial,
	}, name)
}

// jump leads from a built-in chain to one of ours.
type jump struct {
	table           state.RuleTable
	from, to, about string
}

func jumps() []jump {
	return []jump{
		// Marking comes before IPVS, which takes packets in INPUT, and those of the node itself in OUTPUT.
		{state.NAT, "PREROUTING", state.ChainServices, "kubernetes service portals"},
		{state.NAT, "OUTPUT", state.ChainServices, "kubernetes service portals"},
		{state.Mangle, "OUTPUT", state.ChainOutput, "kubernetes service portals"},
		// Masquerade comes after IPVS has put in the endpoint's address.
		{state.NAT, "POSTROUTING", state.ChainPostrouting, "kubernetes postrouting rules"},
		// Answers to masqueraded packets must be forwarded even if FORWARD's policy is DROP, as Docker sets it.
		{state.Filter, "FORWARD", state.ChainForward, "kubernetes forwarding rules"},
		// A Service address is local, so packets to it come through INPUT.
		{state.Filter, "INPUT", state.ChainNodePort, "kubernetes health check rules"},
		{state.Filter, "FORWARD", state.ChainFirewall, "kube-proxy firewall rules"},
		{state.Filter, "INPUT", state.ChainIPVSFilter, "kubernetes ipvs access filter"},
		{state.Filter, "OUTPUT", state.ChainIPVSOut, "kubernetes ipvs access filter"},
	}
}

// about returns a match that only carries kube-proxy's comment.
func about(text string) string { return `-m comment --comment "` + text + `" ` }

// chains returns our chains for family f, with the words of vocabulary replaced.
func chains(f state.Family, c config.Config) []chain {
	words := vocabulary(f, c)
	list := slices.Concat(
		mangleChains(),
		natChains(f, c),
		filterChains(healthz(c), optional(c.AnswerPing, `{echo-request} {KUBE-IPVS-IPS} dst -j RETURN`), unallocated(f, c)),
	)
	for _, ch := range list {
		for i := range ch.rules {
			ch.rules[i] = words.Replace(ch.rules[i])
		}
	}
	return list
}

// vocabulary replaces, for each set, {NAME} by a match of the set, {!NAME} by one that fails, and [NAME] and [!NAME] by
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
		name := string(s.name.For(f))
		look := "-m set --match-set " + name
		words = append(words,
			"{!"+string(s.name)+"}", "-m set ! --match-set "+name,
			"{"+string(s.name)+"}", look,
			"["+string(s.name)+"]", about(s.about)+look,
			"[!"+string(s.name)+"]", about(s.about)+"-m set ! --match-set "+name)
	}
	return strings.NewReplacer(words...)
}

// clusterIPMasquerade returns the rule for traffic to cluster IPs that is not from this node's pods. Unmasqueraded, the
// answer would go straight to the client, from an address that it did not ask; so it must come back here.
func clusterIPMasquerade(f state.Family, c config.Config) string {
	const toClusterIP, mark = "[KUBE-CLUSTER-IP] dst,dst", " -j KUBE-MARK-MASQ"
	if c.MasqueradeAll {
		return toClusterIP + mark
	}
	if pods := local(f, c.LocalDetector); pods != "" {
		return "! " + pods + " " + toClusterIP + mark
	}
	// Pods are not recognized. But a source that is itself a Service address is the node's, which got it from
	// DummyLink; and if Service addresses are routed, so is a source that is one of the node's own.
	if c.VIPBinding == config.RouteBinding {
		return "-m addrtype --src-type LOCAL " + toClusterIP + mark
	}
	return "[KUBE-CLUSTER-IP] src,dst" + mark
}

// local returns a match for packets from this node's pods; empty if the detector recognizes none of family f.
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
