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

// tracer says, from the rows in the kernel alone, what happens to packets. Comparing it with real packets shows whether
// trace can be trusted.
type tracer struct {
	*stage
	rows      state.State
	addresses []netip.Addr
	rules     state.Ruleset
	owners    map[netip.Addr]string // of addresses: a pod's name, a host's name
}

func (s *stage) tracer(t *testing.T) tracer {
	t.Helper()
	tr := tracer{s, s.Kernel(t), s.Addresses(t), s.Rules(t), map[netip.Addr]string{}}
	for _, n := range world.Small().Nodes {
		for _, p := range n.Pods {
			for _, a := range p.Addresses {
				tr.owners[a] = p.Name
			}
		}
	}
	return tr
}

// check compares a cell with the trace of its packets.
func (tr tracer) check(t *testing.T, c cell, svc rig.Service) {
	t.Helper()
	for _, f := range families() {
		for _, p := range protocols() {
			to := c.where.at(tr.stage, svc, f, p)
			v := trace.Of(tr.rows, tr.packet(c.client, p, to), tr.place(c.client))
			if diff := cmp.Diff(c.want, tr.fate(v)); diff != "" || len(v.Doubts) > 0 {
				var text strings.Builder
				_ = trace.Text(&text, v) // a builder takes everything
				t.Errorf("trace differs (-packets +trace):\n%s%s", diff, &text)
			}
		}
	}
}

// packet returns the client's first packet. What the node sends to an address of its own comes from there; for other
// addresses its routes decide, which are in no table.
func (tr tracer) packet(client string, p state.Protocol, to netip.AddrPort) trace.Packet {
	packet := trace.Packet{Protocol: p, Destination: to}
	_, bound := tr.rows.Addresses[state.Address{Addr: to.Addr()}]
	if client == tr.Node.Name && (bound || to.Addr().IsLoopback() || slices.Contains(tr.addresses, to.Addr())) {
		return packet
	}
	packet.Source = netip.AddrPortFrom(tr.World.Host(client).Addr(state.FamilyOf(to.Addr())), 0)
	return packet
}

// place returns where the client's packets come in.
func (tr tracer) place(client string) trace.Where {
	where := trace.Where{Node: client == tr.Node.Name, Addresses: tr.addresses, Interface: "eth0", Rules: tr.rules}
	if tr.isOnNode(client) {
		where.Interface = "veth-" + client
	}
	return where
}

func (tr tracer) fate(v trace.Verdict) fate {
	switch v.Fate {
	case trace.Refused:
		return refused()
	case trace.Dropped:
		return silent()
	case trace.Host: // who listens is in no table
		if v.Packet.Destination.Port() == hostPort {
			return keeping(tr.Node.Name)
		}
		return refused()
	case trace.Served:
		traced := fate{Answers: map[string]seen{}}
		for _, e := range v.Endpoints {
			traced.Answers[tr.owners[e.Address.Addr()]] = own
			if e.Masqueraded {
				traced.Answers[tr.owners[e.Address.Addr()]] = masked
			}
		}
		return traced
	}
	return fate{}
}
