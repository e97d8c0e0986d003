// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// teller says, by the rows in the kernel alone, what becomes of packets. Packets that have been seen to meet their fate
// show whether it can be trusted.
type teller struct {
	*stage
	rows      state.State
	addresses []netip.Addr
	rules     state.Ruleset
	owners    map[netip.Addr]string // of addresses: a pod's name, a host's name
}

func (s *stage) teller(t *testing.T) teller {
	t.Helper()
	tell := teller{s, s.Kernel(t), s.Addresses(t), s.Rules(t), map[netip.Addr]string{}}
	for _, n := range world.Small().Nodes {
		for _, p := range n.Pods {
			for _, a := range p.Addresses {
				tell.owners[a] = p.Name
			}
		}
	}
	return tell
}

// check compares a cell with what is told of it.
func (tell teller) check(t *testing.T, c cell, svc rig.Service) {
	t.Helper()
	for _, f := range families() {
		for _, p := range protocols() {
			to := c.where.at(tell.stage, svc, f, p)
			v := trace.Of(tell.rows, tell.packet(c.client, p, to), tell.place(c.client))
			if diff := cmp.Diff(c.want, tell.fate(v)); diff != "" || len(v.Doubts) > 0 {
				var text strings.Builder
				_ = trace.Text(&text, v) // a builder takes everything
				t.Errorf("trace tells otherwise (-packets +trace):\n%s%s", diff, &text)
			}
		}
	}
}

// packet is the client's first. What the node sends to an address that it has comes from there; what it sends elsewhere, its
// routes decide, which are in no table.
func (tell teller) packet(client string, p state.Protocol, to netip.AddrPort) trace.Packet {
	packet := trace.Packet{Protocol: p, Destination: to}
	_, bound := tell.rows.Addresses[state.Address{Addr: to.Addr()}]
	if client == tell.Node.Name && (bound || to.Addr().IsLoopback() || slices.Contains(tell.addresses, to.Addr())) {
		return packet
	}
	packet.Source = netip.AddrPortFrom(tell.World.Host(client).Addr(state.FamilyOf(to.Addr())), 0)
	return packet
}

// place is where the client's packets come in.
func (tell teller) place(client string) trace.Where {
	where := trace.Where{Node: client == tell.Node.Name, Addresses: tell.addresses, Interface: "eth0", Rules: tell.rules}
	if tell.isOnNode(client) {
		where.Interface = "veth-" + client
	}
	return where
}

func (tell teller) fate(v trace.Verdict) fate {
	switch v.Fate {
	case trace.Refused:
		return refused()
	case trace.Dropped:
		return silent()
	case trace.Host: // who listens is in no table
		if v.Packet.Destination.Port() == hostPort {
			return keeping(tell.Node.Name)
		}
		return refused()
	case trace.Served:
		told := fate{Answers: map[string]seen{}}
		for _, e := range v.Endpoints {
			told.Answers[tell.owners[e.Address.Addr()]] = own
			if e.Masqueraded {
				told.Answers[tell.owners[e.Address.Addr()]] = masked
			}
		}
		return told
	}
	return fate{}
}
