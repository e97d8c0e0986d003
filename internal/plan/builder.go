// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// maxRealServers bounds what one Service can cost the node. The API server allows far more: 20,000 ports in one slice
// of 1,000 endpoints.
const maxRealServers = 1 << 20

// builder collects the rows of one Service. Entries and real servers, which are many, are sorted at the end: maps of
// them would be most of the cost of planning.
type builder struct {
	entries     []entryRow // of those with one key the first counts
	servers     map[state.VirtualServerKey]state.VirtualServer
	realServers []realServerRow
	addresses   map[state.Address]state.Binding
	ranks       []rankRow

	notes    *notes
	service  service
	vicinity vicinity
	name     string // "namespace/name"
	capacity int    // of real servers
	noted    map[netip.Addr]bool
	split    []splitFrontend
	refused  []netip.Addr // in use elsewhere
	forwards []state.Forward
}

type (
	entryRow      = diff.Row[state.SetEntry, state.Entry]
	realServerRow = diff.Row[state.RealServerKey, state.RealServer]
	rankRow       = diff.Row[state.VirtualServerKey, state.Rank]
)

func newBuilder(s service, v vicinity, ns *notes) *builder {
	const ordinary = 4 // entries: one port at one address, and an endpoint here
	return &builder{
		entries:   make([]entryRow, 0, ordinary),
		servers:   map[state.VirtualServerKey]state.VirtualServer{},
		addresses: map[state.Address]state.Binding{},
		notes:     ns,
		service:   s,
		vicinity:  v,
		name:      comment(s.namespace, s.name, ""),
		capacity:  maxRealServers,
	}
}

// fragment returns all that was collected.
func (b *builder) fragment() Fragment {
	f := state.FragmentOf(state.State{VirtualServers: b.servers, Addresses: b.addresses}, nil)
	if len(b.entries) > 0 { // else nil, so that equal fragments compare equal
		slices.SortStableFunc(b.entries, func(a, b entryRow) int { return a.Key.Compare(b.Key) })
		f.Entries = slices.CompactFunc(b.entries, func(a, b entryRow) bool { return a.Key == b.Key })
	}
	slices.SortFunc(b.realServers, func(a, b realServerRow) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(b.ranks, func(a, b rankRow) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(b.refused, netip.Addr.Compare)
	f.RealServers, f.Ranks, f.Forwards, f.Refused = b.realServers, b.ranks, b.forwards, b.refused
	return f
}

// enter adds an entry to its set in the firewall that holds our rules.
func (b *builder) enter(k state.SetEntry, comment string) {
	k.Set = k.Set.On(b.vicinity.config.Firewall)
	b.entries = append(b.entries, entryRow{Key: k, Value: state.Entry{Comment: comment}})
}

// port adds all frontends of one port in the family of the cluster IP.
func (b *builder) port(p port, clusterIP netip.Addr, all []endpoint) {
	to := choose(all)
	b.hairpin(p, filter(all, func(e endpoint) bool { return e.local || b.vicinity.config.RemoteHairpins }))
	for _, f := range b.service.frontends(p, clusterIP, b.vicinity) {
		if !b.place(&f) || !b.serve(f, to) {
			continue
		}
		if f.local && f.outside {
			b.split = append(b.split, splitFrontend{f, p, to.cluster})
		}
		if f.node {
			b.forward(p, f.server)
		}
	}
	if k := serverKey(clusterIP, p.number, p.protocol); b.has(k) && p.nodePort != 0 {
		b.forward(p, k)
	}
}

func (b *builder) has(k state.VirtualServerKey) bool { _, ok := b.servers[k]; return ok }

// place decides whether the address of f is bound, and reports whether f may be served at all.
func (b *builder) place(f *frontend) bool {
	if f.node {
		return true
	}
	a, at := f.server.Address.Addr(), b.vicinity.place(f)
	if !at.bind && !b.noted[a] {
		if b.noted == nil {
			b.noted = map[netip.Addr]bool{}
		}
		b.noted[a] = true
		b.notePlace(a, f.field, at.refused)
		if at.others {
			b.refused = append(b.refused, a)
		}
	}
	f.bound = at.bind
	return at.refused == ""
}

// notePlace notes once, not for every port, that a Service's address is not bound.
func (b *builder) notePlace(a netip.Addr, field, refused string) {
	if refused != "" {
		b.notes.add(state.ProtectedAddress, field, "%v %s; not served there", a, refused)
		return
	}
	b.notes.add(state.ProtectedAddress, field, "%v is this node's own address; served there, but not bound to %s", a, state.DummyLink)
}

// serve adds a frontend with its endpoints, and reports whether it could. Without endpoints it exists as well: the
// kernel then refuses connections at once. But if only the traffic policy keeps endpoints away, packets get no answer:
// another node has endpoints, and a refusal would be final.
func (b *builder) serve(f frontend, to chosen) bool {
	targets := to.cluster
	if f.local {
		targets = to.local
	}
	if b.has(f.server) {
		b.notes.add(state.InvalidPort, f.field, "%v is served by the same Service already", f.server)
		return false
	}
	if !b.balance(f.server, f.field, targets) {
		return false
	}
	if f.rank != state.Allocated {
		b.rank(f.server, f.rank)
	}
	for _, e := range f.entries {
		b.enter(e, f.comment)
	}
	if f.local && len(targets) == 0 && to.any {
		b.enter(serverEntry(state.SetNoLocal, f.server), f.comment)
	}
	if f.node {
		b.enter(state.SetEntry{Set: state.SetNodeIPs.For(f.server.Family()), Address: f.server.Address.Addr()}, sharedComment)
	}
	if f.bound {
		b.bind(f.server.Address.Addr(), b.name)
	}
	return true
}

func (b *builder) rank(k state.VirtualServerKey, r state.Rank) {
	b.ranks = append(b.ranks, rankRow{Key: k, Value: r})
}

// forward lets localhost clients reach the NodePort at the first frontend of each family: at one of the node's
// addresses, or at the cluster IP if none of these serves NodePorts.
func (b *builder) forward(p port, k state.VirtualServerKey) {
	same := func(o state.Forward) bool {
		return o.Protocol == p.protocol && o.NodePort == p.nodePort && state.FamilyOf(o.To.Addr()) == k.Family()
	}
	if b.vicinity.config.LocalhostNodePorts && p.protocol != state.SCTP && !slices.ContainsFunc(b.forwards, same) {
		b.forwards = append(b.forwards, state.Forward{Protocol: p.protocol, NodePort: p.nodePort, To: k.Address})
	}
}

// balance adds a virtual server and its real servers, and reports whether it could.
func (b *builder) balance(k state.VirtualServerKey, field string, to []endpoint) bool {
	if len(b.realServers)+len(to) > b.capacity {
		b.notes.add(state.TooLong, field, "%v would make the Service have more than %d real servers", k, b.capacity)
		return false
	}
	b.servers[k] = b.virtualServer(k.Family())
	b.realServers = slices.Grow(b.realServers, len(to))
	for _, e := range to {
		weight := b.service.scheduling.weights.of(e, b.vicinity.node.Zone)
		b.realServers = append(b.realServers, realServerRow{
			Key:   state.RealServerKey{Server: k, Address: e.address},
			Value: state.RealServer{Weight: weight, Method: state.Masquerade},
		})
	}
	return true
}

func (b *builder) virtualServer(f state.Family) state.VirtualServer {
	s := b.service.scheduling
	v := state.VirtualServer{Scheduler: s.name, Flags: s.flags, Timeout: b.service.affinity, Prefix: uint8(f.Bits())}
	if v.Timeout > 0 {
		v.Flags |= state.Persistent
	}
	return v
}

// sharedComment is the comment of the entries that Services share.
const sharedComment = "kube-ipvs"

func (b *builder) bind(a netip.Addr, comment string) {
	b.addresses[state.Address{Addr: a}] = b.vicinity.binding(state.FamilyOf(a))
	b.enter(addressEntry(a), comment)
}

// addressEntry returns the entry that proves a ours and keeps clients from the host's own ports at a.
func addressEntry(a netip.Addr) state.SetEntry {
	return state.SetEntry{Set: state.SetIPVSIPs.For(state.FamilyOf(a)), Address: a}
}

// hairpin lets each endpoint reach itself through the Service: such a packet must not come back with the endpoint's own
// address as its source. Unready endpoints too: a connection may outlive the readiness. Ports that share an endpoint
// share the entry, with the first one's name.
func (b *builder) hairpin(p port, endpoints []endpoint) {
	for _, e := range endpoints {
		a := e.address.Addr()
		k := serverEntry(state.SetLoopBack, state.VirtualServerKey{Address: e.address, Protocol: p.protocol})
		k.Source = netip.PrefixFrom(a, a.BitLen())
		b.enter(k, p.comment)
	}
}

// healthCheck returns the answer for load balancers, and lets their requests in.
func (b *builder) healthCheck(e endpoints) state.HealthCheck {
	h := state.HealthCheck{Port: b.service.healthPort}
	if h.Port == 0 {
		return h
	}
	for _, ip := range b.service.clusterIPs {
		f := state.FamilyOf(ip)
		if !slices.Contains(b.vicinity.config.Families, f) {
			continue
		}
		answer := state.Health{Served: true, Endpoints: e.localReady(f)}
		if f == state.IPv4 {
			h.IPv4 = answer
		} else {
			h.IPv6 = answer
		}
		b.enter(state.SetEntry{Set: state.SetHealthCheckNodePort.For(f), Port: h.Port}, b.name)
	}
	return h
}
