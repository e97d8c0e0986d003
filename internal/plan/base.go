// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strconv"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Base returns the rows that every node has, with any number of Services.
func Base(c config.Config) Fragment {
	rows := state.New()
	rows.Sysctls = sysctls(c)
	rows.Links[state.DummyLink] = state.Link{Kind: "dummy"}
	for _, f := range c.Families {
		for _, s := range sets() {
			rows.Sets[s.name.For(f).On(c.Firewall)] = s.header(f, c.Firewall)
		}
		for _, ch := range (firewall{f, c}).chains() {
			rows.Chains[state.ChainKey{Family: f, Table: ch.table.On(c.Firewall), Name: ch.name}] = ch.row(f)
		}
		for _, j := range jumps() {
			k := state.JumpKey{Family: f, Table: j.table.On(c.Firewall), From: j.from, To: j.to}
			rows.Jumps[k] = state.Jump{Rule: rule.When(rule.About(j.about)).Then(rule.Jump(j.to)).Text(f)}
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
