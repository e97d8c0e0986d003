// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// splitFrontend is a frontend with two groups of clients (state.InsidePort). to are the endpoints for clients in the
// cluster.
type splitFrontend struct {
	frontend
	port port
	to   []endpoint
}

// serveInside gives this node and its pods all endpoints of the frontends that have only local ones for other clients.
// It runs after all frontends of the Service: what a Service names comes before what we derive.
func (b *builder) serveInside() {
	for _, f := range b.split {
		if len(f.to) > 0 && b.leadInside(f) {
			b.hairpin(f.port, f.to) // here also one on another node may meet itself
		}
	}
}

// leadInside adds a virtual server for a frontend's clients in the cluster, and the entry that leads them to it. It
// reports whether it could.
func (b *builder) leadInside(f splitFrontend) bool {
	lead := serverEntry(state.SetInside, f.server)
	if !f.bound {
		lead = serverEntry(state.SetInsideNode, f.server)
	}
	k, _ := lead.LeadsTo(state.Entry{})
	switch {
	case f.bound && !b.vicinity.config.ShiftsPorts():
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
		b.bind(k.Address.Addr(), sharedComment)
	}
	b.lead(f.frontend, lead, k)
	return true
}

// derive adds a virtual server that only our rules lead to. A Service that names its address comes before it.
func (b *builder) derive(k state.VirtualServerKey, field string, to []endpoint) bool {
	if !b.balance(k, field, to) {
		return false
	}
	b.rank(k, state.Derived)
	return true
}

// lead adds the entries that lead a frontend's packets to another address and port, and by which rules let in these
// packets and no others.
func (b *builder) lead(f frontend, lead state.SetEntry, to state.VirtualServerKey) {
	entries := []state.SetEntry{lead, serverEntry(state.SetServers, to)}
	if f.guarded {
		entries = append(entries, b.service.guards(to, b.vicinity)...)
	}
	for _, e := range entries {
		b.enter(e, f.comment)
	}
}

// joined reads the annotation that asks for one session affinity over all ports.
func joined(annotations map[string]string, ns *notes) bool {
	switch value := annotations[annotationAffinity]; value {
	case "service":
		return true
	case "port", "":
	default:
		ns.add(state.InvalidAffinity, field(annotationAffinity), "%.64q is neither port nor service; using port", value)
	}
	return false
}

// join adds the virtual servers for all ports, if the Service asks for one session affinity over them. IPVS keeps
// affinity for each virtual server, so all ports must be one virtual server: that of port 0, which takes all ports of
// its address. At the Service's own address other ports may be the host's or another Service's, so its packets are led
// to an address of their own (state.JoinedNetwork). A packet keeps its port, so endpoints must listen on the Service's
// own ports, and NodePorts cannot take part.
func (b *builder) join(e endpoints) {
	if !b.service.joined || b.service.affinity == 0 {
		return
	}
	if !b.vicinity.config.JoinsPorts() {
		b.notes.add(state.InvalidAffinity, field(annotationAffinity), "each port has its own: the kernel, or iptables, has no target NETMAP")
		return
	}
	for _, ip := range b.service.clusterIPs {
		for _, p := range []state.Protocol{state.TCP, state.UDP, state.SCTP} {
			ports := slices.DeleteFunc(slices.Clone(b.service.ports), func(o port) bool { return o.protocol != p })
			if len(ports) > 1 {
				b.joinPorts(ip, ports, e)
			}
		}
	}
}

func (b *builder) joinPorts(clusterIP netip.Addr, ports []port, e endpoints) {
	to, ok := b.shared(state.FamilyOf(clusterIP), ports, e)
	if !ok || len(to) == 0 { // without endpoints, each port's own virtual server refuses
		return
	}
	kept := map[netip.Addr]bool{} // one affinity for each port
	for _, p := range ports {
		for _, f := range b.service.frontends(p, clusterIP, b.vicinity) {
			a := f.server.Address.Addr()
			_, bound := b.addresses[state.Address{Addr: a}]
			if !bound || kept[a] || !b.has(f.server) || f.node || f.outside && (f.local || b.service.internalLocal) {
				continue
			}
			kept[a] = !b.leadJoined(f, to)
		}
	}
}

// leadJoined leads a frontend's packets to the virtual server for all ports, and reports whether it could.
func (b *builder) leadJoined(f frontend, to []endpoint) bool {
	lead := serverEntry(state.SetAllPorts, f.server)
	k, _ := lead.LeadsTo(state.Entry{})
	if !b.has(k) && !b.serveJoined(f, k, to) {
		return false
	}
	b.lead(f, lead, serverKey(k.Address.Addr(), f.server.Address.Port(), k.Protocol))
	return true
}

// serveJoined adds the virtual server for all ports of a frontend's address, if its own address is free.
func (b *builder) serveJoined(f frontend, k state.VirtualServerKey, to []endpoint) bool {
	own := k.Address.Addr() == f.server.Address.Addr()
	if at := b.vicinity.place(&frontend{server: k, outside: true}); own || !at.bind {
		b.notes.add(state.InvalidAffinity, field(annotationAffinity), "each port of %v has its own: what one over all ports needs, %v, is not free", f.server.Address.Addr(), k.Address.Addr())
		return false
	}
	if !b.derive(k, field(annotationAffinity), to) {
		return false
	}
	b.bind(k.Address.Addr(), b.name)
	b.enter(serverEntry(state.SetServers, k), b.name)
	return true
}

// shared returns the endpoints that serve all ports, on the Service's own numbers, without a port.
func (b *builder) shared(f state.Family, ports []port, e endpoints) ([]endpoint, bool) {
	var all []endpoint
	for i, p := range ports {
		to := choose(e.of(f, p.portName))
		list := to.cluster
		if b.service.internalLocal {
			list = to.local
		}
		var mine []endpoint
		for _, one := range list {
			if one.address.Port() != p.number {
				b.notes.add(state.InvalidAffinity, field(annotationAffinity),
					"port %d leads to port %d of %v; one affinity over all ports needs the same", p.number, one.address.Port(), one.address.Addr())
				return nil, false
			}
			one.address = netip.AddrPortFrom(one.address.Addr(), 0)
			mine = append(mine, one)
		}
		if i == 0 {
			all = mine
			continue
		}
		all = filter(all, func(one endpoint) bool {
			return slices.ContainsFunc(mine, func(o endpoint) bool { return o.address == one.address })
		})
	}
	return all, true
}
