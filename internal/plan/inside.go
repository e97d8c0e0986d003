// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// splitFrontend is a frontend with two groups of clients (state.InsidePort), and the endpoints of those in
// the cluster.
type splitFrontend struct {
	frontend
	port port
	to   []endpoint
}

// serveInside gives this node and its pods all endpoints of the frontends that have only the local ones for
// others. It comes after all frontends of the Service: one that somebody named comes before a virtual server
// that nobody did.
func (b *builder) serveInside() {
	for _, f := range b.split {
		if len(f.to) > 0 && b.leadInside(f) {
			b.hairpin(f.port, f.to) // here also one on another node may meet itself
		}
	}
}

// leadInside adds a virtual server for a frontend's clients in the cluster, and the entry that leads them to
// it, and reports whether it could.
func (b *builder) leadInside(f splitFrontend) bool {
	lead := serverEntry(setInside, f.server)
	if !f.bound {
		lead = serverEntry(setInsideNode, f.server)
	}
	k, _ := lead.LeadsTo(state.Entry{})
	switch {
	case f.bound && !b.vicinity.config.Kernel.ShiftsPorts():
		b.notes.add(state.InvalidPolicy, f.field, "%v has only endpoints of this node for clients in the cluster too: the kernel is older than 4.18", f.server)
		return false
	case !f.bound && b.has(k): // made for this NodePort at another of the node's addresses
	case b.has(k):
		b.notes.add(state.InvalidPort, f.field, "%v has only endpoints of this node for clients in the cluster too: what they need, %v, is served by the same Service", f.server, k)
		return false
	case !b.derive(k, f.field, f.to):
		return false
	}
	if !f.bound {
		b.bind(k.Address.Addr(), everyone)
	}
	b.lead(f.frontend, lead, k)
	return true
}

// derive adds a virtual server that only our rules lead to. A Service that names its address and port comes
// before it.
func (b *builder) derive(k state.VirtualServerKey, field string, to []endpoint) bool {
	if !b.balance(k, field, b.virtualServer(k.Family()), to) {
		return false
	}
	b.ranks = append(b.ranks, diff.Row[state.VirtualServerKey, state.Rank]{Key: k, Value: state.Derived})
	return true
}

// lead adds the entries that lead a frontend's packets to another address and port, and by which rules let
// them in there, and no others.
func (b *builder) lead(f frontend, lead state.SetEntry, to state.VirtualServerKey) {
	entries := []state.SetEntry{lead, serverEntry(setServers, to)}
	if f.guarded {
		entries = append(entries, b.service.guards(to, b.vicinity)...)
	}
	for _, e := range entries {
		b.enter(e, state.Entry{Comment: f.comment})
	}
}
