// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"
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
		// With 0, IPVS drops the conntrack entry of its packets, and POSTROUTING loses the mark and the
		// source address that it masquerades.
		"net/ipv4/vs/conntrack": "1",
		// A packet of a connection whose real server is gone ends the connection, so that the client tries
		// another one. With 0 the kernel drops such packets until the client gives up.
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
		// A device answers ARP only for its own addresses, and asks only with one of them: never with one of
		// DummyLink.
		s["net/ipv4/conf/all/arp_ignore"] = "1"
		s["net/ipv4/conf/all/arp_announce"] = "2"
	}
	return s
}

// timeouts returns how long the kernel keeps silent connections: IPVS its own, and conntrack those that it
// masquerades or lets through. 0: the kernel's own value.
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
