// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// One session affinity over all ports of a Service. IPVS' persistence is one of a
// virtual server, so all ports have to be one: a virtual server known by a mark.
// It leaves the port of a packet as it is, so that endpoints have to listen on
// the very ports of the Service, and NodePorts can't be part of it. There are two
// for each family and protocol, one of them for clients that are masqueraded.

// joined reads the annotation.
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

// join adds the virtual servers for all ports, if the Service asks for them.
func (b *builder) join(e endpoints) {
	if !b.service.joined || b.service.affinity == 0 {
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
	f := state.FamilyOf(clusterIP)
	to, ok := b.shared(f, ports, e)
	if !ok || len(to) == 0 { // without endpoints, each port's own virtual server refuses
		return
	}
	v := b.virtualServer(f)
	plain := state.MarkOf(ports[0].protocol, 0, hash(b.name+" "+ports[0].protocol.String()))
	for _, mark := range []uint32{plain, plain | state.MarkMasquerade} {
		if !b.balance(state.MarkKey(f, mark), field(annotationAffinity), v, to) {
			return
		}
	}
	for _, p := range ports {
		for _, front := range b.service.frontends(p, clusterIP, b.vicinity) {
			if _, served := b.servers[front.server]; !served || front.node || front.outside && (front.local || b.service.internalLocal) {
				continue
			}
			b.enter(serverEntry(setMarkMasq, front.server), state.Entry{Comment: front.comment, Mark: plain | state.MarkMasquerade})
			if !front.outside {
				b.enter(serverEntry(setMark, front.server), state.Entry{Comment: front.comment, Mark: plain})
			}
		}
	}
}

// shared are the endpoints that serve all ports, on the Service's own numbers,
// without a port.
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

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s)) // never fails
	return h.Sum32()
}
