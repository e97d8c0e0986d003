// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Base returns the rows that are there without any Service: as many with ten
// thousand of them as with none.
func Base(c config.Config) Fragment {
	rows := state.New()
	rows.Sysctls = sysctls(c)
	rows.Links[state.DummyLink] = state.Link{Kind: "dummy"}
	for _, f := range c.Families {
		for _, s := range sets() {
			rows.Sets[named(f, s.name)] = s.header(f)
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
		// Without it IPVS drops the conntrack entry of its packets, and with
		// that the mark and the source address that POSTROUTING masquerades.
		"net/ipv4/vs/conntrack": "1",
		// A packet of a connection whose real server is gone ends the
		// connection, so that the client's next try goes elsewhere. With 0 it
		// is dropped until the client gives up.
		"net/ipv4/vs/expire_nodest_conn": "1",
		// Session affinity ends with its endpoint: a client does not stick to
		// a real server of weight 0, one that drains.
		"net/ipv4/vs/expire_quiescent_template": "1",
	}
	for _, f := range c.Families {
		// The node routes between its pods and the rest.
		s[forwarding(f)] = "1"
	}
	if c.Kernel.DelaysReuse() {
		s["net/ipv4/vs/conn_reuse_mode"] = "0"
	}
	for name, timeout := range map[state.SysctlName]time.Duration{
		state.TCPTimeout: c.TCPTimeout, state.TCPFinTimeout: c.TCPFinTimeout, state.UDPTimeout: c.UDPTimeout,
	} {
		if timeout > 0 {
			s[name] = strconv.Itoa(int(timeout / time.Second))
		}
	}
	if c.StrictARP {
		// ARP is answered only for addresses of the device that was asked, and
		// asks with such an address: never with one of DummyLink.
		s["net/ipv4/conf/all/arp_ignore"] = "1"
		s["net/ipv4/conf/all/arp_announce"] = "2"
	}
	return s
}

func forwarding(f state.Family) state.SysctlName {
	if f == state.IPv4 {
		return "net/ipv4/ip_forward"
	}
	return "net/ipv6/conf/all/forwarding"
}
