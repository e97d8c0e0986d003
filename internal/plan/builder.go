// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// maxRealServers bounds what one Service can cost the node. The API server's
// own bounds allow for far more: 20,000 ports in one slice of 1,000 endpoints.
const maxRealServers = 1 << 20

// builder collects the rows of one Service.
type builder struct {
	rows     state.State
	notes    *notes
	server   state.VirtualServer // of all its virtual servers, but for the prefix
	name     string              // "namespace/name"
	capacity int                 // of real servers
}

func newBuilder(s service, c config.Config, ns *notes) *builder {
	return &builder{
		rows:     state.New(),
		notes:    ns,
		server:   virtualServer(s, c),
		name:     comment(s.namespace, s.name, ""),
		capacity: maxRealServers,
	}
}

func virtualServer(s service, c config.Config) state.VirtualServer {
	v := state.VirtualServer{Scheduler: c.Scheduler, Timeout: s.affinity}
	if s.affinity > 0 {
		v.Flags |= state.Persistent
	}
	if c.Scheduler == "mh" {
		// mh-port: without it all connections of a client go to one endpoint.
		v.Flags |= state.Sched2
	}
	return v
}

// serve adds a frontend with the endpoints that serve it. Without endpoints it
// is there as well: the kernel then refuses connections at once.
func (b *builder) serve(f frontend, to []endpoint) {
	if _, taken := b.rows.VirtualServers[f.server]; taken {
		b.notes.add(state.InvalidPort, f.field, "%v is served by the same Service already", f.server)
		return
	}
	if len(b.rows.RealServers)+len(to) > b.capacity {
		b.notes.add(state.TooLong, f.field, "%v would make the Service have more than %d real servers", f.server, b.capacity)
		return
	}
	server := b.server
	server.Prefix = uint8(f.server.Family().Bits())
	b.rows.VirtualServers[f.server] = server
	for _, e := range to {
		k := state.RealServerKey{Server: f.server, Address: e.address}
		b.rows.RealServers[k] = state.RealServer{Weight: 1, Method: state.Masquerade}
	}
	for _, e := range f.entries {
		b.rows.Entries[e] = state.Entry{Comment: f.comment}
	}
	if f.bound {
		b.bind(f.server.Address.Addr())
	}
}

func (b *builder) bind(a netip.Addr) {
	b.rows.Addresses[state.Address{Addr: a}] = state.Binding{}
	b.rows.Entries[addressEntry(a)] = state.Entry{Comment: b.name}
}

// addressEntry says that a is ours, and keeps the host's own ports from being
// reached through it.
func addressEntry(a netip.Addr) state.SetEntry {
	return state.SetEntry{Set: named(state.FamilyOf(a), setIPVSIPs), Address: a}
}

// hairpin lets each local endpoint reach itself through the Service: such a
// packet must not come back with the endpoint's own address as its source.
// Unready endpoints too: a connection may outlive the readiness. Ports that
// share an endpoint share the entry, the first one's name is on it.
func (b *builder) hairpin(p port, all []endpoint) {
	for _, e := range all {
		if !e.local {
			continue
		}
		a := e.address.Addr()
		k := serverEntry(setLoopBack, state.VirtualServerKey{Address: e.address, Protocol: p.protocol})
		k.Source = netip.PrefixFrom(a, a.BitLen())
		if _, ok := b.rows.Entries[k]; !ok {
			b.rows.Entries[k] = state.Entry{Comment: p.comment}
		}
	}
}
