// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// frontend is one address and port at which a port of a Service is served.
type frontend struct {
	field   string // the path in the Service, for notes
	comment string
	server  state.VirtualServerKey
	entries []state.SetEntry // prove it ours, and choose the rules for its packets
	bound   bool             // the node takes packets to the address
	node    bool             // it is a NodePort
	rank    state.Rank       // the Service's right to the address
	local   bool             // by its traffic policy only endpoints of this node serve
	guarded bool             // only the Service's source ranges may come
	// outside is for clients from outside the cluster. This node and its pods get all endpoints even if local is set:
	// they need no load balancer to choose the node.
	outside bool
}

// frontends returns all frontends of port p in the family of the cluster IP. Load balancer addresses come before
// external IPs: an address that is both is guarded by the source ranges.
func (s service) frontends(p port, clusterIP netip.Addr, v vicinity) []frontend {
	f := state.FamilyOf(clusterIP)
	list := []frontend{s.clusterFrontend(p, clusterIP)}
	for _, at := range s.loadBalancers {
		if state.FamilyOf(at.Addr) == f {
			list = append(list, s.loadBalancerFrontend(p, at, v))
		}
	}
	for _, at := range s.externals {
		if state.FamilyOf(at.Addr) == f {
			list = append(list, s.externalFrontend(p, at))
		}
	}
	if p.nodePort != 0 {
		for _, a := range v.nodePortAddresses(f) {
			list = append(list, s.nodeFrontend(p, a, v))
		}
	}
	return list
}

func (s service) clusterFrontend(p port, ip netip.Addr) frontend {
	k := serverKey(ip, p.number, p.protocol)
	return frontend{
		field: p.field + ".port", comment: p.comment, server: k,
		entries: []state.SetEntry{serverEntry(state.SetClusterIP, k)},
		bound:   true,
		local:   s.internalLocal,
	}
}

func (s service) externalFrontend(p port, at located) frontend {
	k := serverKey(at.Addr, p.number, p.protocol)
	set := state.SetExternalIP
	if s.externalLocal {
		set = state.SetExternalIPLocal
	}
	return frontend{
		field: at.field, comment: p.comment, server: k,
		entries: []state.SetEntry{serverEntry(set, k)},
		bound:   true,
		rank:    state.External,
		local:   s.externalLocal,
		outside: true,
	}
}

func (s service) loadBalancerFrontend(p port, at located, v vicinity) frontend {
	k := serverKey(at.Addr, p.number, p.protocol)
	entries := []state.SetEntry{serverEntry(state.SetLoadBalancer, k)}
	if s.externalLocal {
		entries = append(entries, serverEntry(state.SetLoadBalancerLocal, k))
	}
	return frontend{
		field: at.field, comment: p.comment, server: k,
		entries: append(entries, s.guards(k, v)...),
		bound:   true,
		guarded: true,
		rank:    state.Balanced,
		local:   s.externalLocal,
		outside: true,
	}
}

func (s service) nodeFrontend(p port, address netip.Addr, v vicinity) frontend {
	k := serverKey(address, p.nodePort, p.protocol)
	all, local := nodePortSets(p.protocol)
	entries := []state.SetEntry{nodePortEntry(all, k)}
	if s.externalLocal {
		entries = append(entries, nodePortEntry(local, k))
	}
	if v.config.NodePortSourceRanges {
		entries = append(entries, s.guards(k, v)...)
	}
	return frontend{
		field: p.field + ".nodePort", comment: p.comment, server: k,
		entries: entries,
		node:    true,
		guarded: v.config.NodePortSourceRanges,
		local:   s.externalLocal,
		outside: true,
	}
}

// guards returns the entries that let only the Service's source ranges in. A client on the node itself has the node's
// address as its source or, to a bound address, that very address. A routed address is not its own source, but it may
// have been assigned a moment ago.
func (s service) guards(k state.VirtualServerKey, v vicinity) []state.SetEntry {
	ranges, guarded := s.ranges[k.Family()]
	if !guarded {
		return nil
	}
	entries := []state.SetEntry{serverEntry(state.SetLoadBalancerFW, k)}
	for _, r := range ranges {
		e := serverEntry(state.SetLoadBalancerSourceCIDR, k)
		e.Source = r
		entries = append(entries, e)
	}
	if v.inside(ranges) {
		e := serverEntry(state.SetLoadBalancerSourceIP, k)
		e.Source = netip.PrefixFrom(e.Address, e.Address.BitLen())
		entries = append(entries, e)
	}
	return entries
}

func serverKey(a netip.Addr, port uint16, p state.Protocol) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.AddrPortFrom(a, port), Protocol: p}
}

// vicinity is the node as frontends see it.
type vicinity struct {
	node    Node
	config  config.Config
	present map[netip.Addr]Presence // at the addresses that the Service wants
}

// inside reports whether one of the node's addresses is in one of the ranges.
func (v vicinity) inside(ranges []netip.Prefix) bool {
	addresses := v.node.IPs
	if len(addresses) == 0 { // no Node object, or one without addresses
		addresses = v.node.Addresses
	}
	return slices.ContainsFunc(addresses, func(a netip.Addr) bool {
		_, in := networkOf(ranges, a)
		return in
	})
}

// binding returns how Service addresses of family f are bound.
//
// The node's own packets to them take the MTU of the loopback device, until IPVS sends them elsewhere: a datagram that
// fits that MTU is sent whole with "don't fragment", and IPVS drops it if the endpoint's device carries less. So IPv4
// bindings have an MTU that all devices carry. For IPv6 an MTU would not help: the kernel fragments nothing before
// IPVS, which drops what is too large (ip_vs_xmit.c).
func (v vicinity) binding(f state.Family) state.Binding {
	var b state.Binding
	if f == state.IPv4 {
		b.MTU = v.node.MTU
	}
	if v.config.VIPBinding == config.RouteBinding {
		b.Means, b.Source = state.Routed, v.source(f)
	}
	return b
}

// source returns the source of the node's own packets to routed addresses of family f: the address of the Node object,
// by which others know the node. A route can name it only if an interface has it. Without one, the kernel takes the
// Service address itself for IPv4, as if it were assigned. For IPv6 it would take an address of any interface, even of
// a bridge of pods, and the node would look like a pod; so source picks one that is not in a pod network.
func (v vicinity) source(f state.Family) netip.Addr {
	isSource := func(a netip.Addr) bool { return state.FamilyOf(a) == f && slices.Contains(v.node.Addresses, a) }
	if i := slices.IndexFunc(v.node.IPs, isSource); i >= 0 {
		return v.node.IPs[i]
	}
	var first netip.Addr
	for _, a := range v.node.Addresses {
		_, pods := networkOf(v.config.LocalDetector.CIDRs, a)
		fit := f == state.IPv6 && a.Is6() && checkFrontend(a) == nil && !pods
		if fit && (!first.IsValid() || a.Less(first)) {
			first = a
		}
	}
	return first
}

// nodePortAddresses returns the node's addresses of family f that serve NodePorts, sorted. None is on the loopback
// device: IPVS cannot send packets from 127.0.0.0/8 to another host.
func (v vicinity) nodePortAddresses(f state.Family) []netip.Addr {
	var list []netip.Addr
	for _, a := range v.node.Addresses {
		a = a.Unmap()
		if a.IsValid() && a.Zone() == "" && state.FamilyOf(a) == f && checkFrontend(a) == nil && v.servesNodePorts(a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func (v vicinity) servesNodePorts(a netip.Addr) bool {
	sameFamily := func(p netip.Prefix) bool { return state.FamilyOf(p.Addr()) == state.FamilyOf(a) }
	networks, primary := v.config.NodePortAddresses, v.config.NodePortPrimary
	_, excluded := networkOf(v.config.ExcludeCIDRs, a)
	_, chosen := networkOf(networks, a)
	switch {
	case excluded:
		return false
	case chosen, primary && slices.Contains(v.node.IPs, a):
		return true
	}
	return !primary && !slices.ContainsFunc(networks, sameFamily)
}

// placement is what happens to an address of a Service.
type placement struct {
	bind    bool   // the node takes packets to it
	refused string // why nothing may be served there; empty: it may
	others  bool   // refused, as another machine or pod has it
}

// place decides who has the address of f. The API server assigns cluster IPs. But anyone who may write a Service may
// put any other address into it, and a node reports its own addresses: neither may take the other's.
func (v vicinity) place(f *frontend) placement {
	a := f.server.Address.Addr()
	if p, in := networkOf(v.config.ExcludeCIDRs, a); in {
		return placement{refused: "is in the excluded network " + p.String()}
	}
	own := slices.Contains(v.node.Addresses, a)
	if !f.outside {
		return placement{bind: !own}
	}
	if owner := v.node.Others[a]; owner != "" {
		return placement{refused: "is the address of " + owner, others: true}
	}
	if own {
		return placement{}
	}
	if why := v.taken(a, f.rank); why != "" {
		return placement{refused: why, others: true}
	}
	return placement{bind: true}
}

// taken returns why an address that the node does not have cannot be a Service's. A load balancer's address comes from
// an operator, so an endpoint that someone only wrote down does not outrank it.
func (v vicinity) taken(a netip.Addr, rank state.Rank) string {
	for _, p := range v.node.Networks {
		switch {
		case !p.Contains(a):
		case a == p.Masked().Addr():
			return "is the network " + p.String() + " of this node itself"
		case a == broadcast(p):
			return "is the broadcast address of this node's network " + p.String()
		}
	}
	for _, pods := range [][]netip.Prefix{v.config.PodCIDRs, v.config.LocalDetector.CIDRs, v.node.PodCIDRs} {
		if p, in := networkOf(pods, a); in {
			return "is in the pod network " + p.String()
		}
	}
	if p := v.present[a]; p == Located || p == Endpoint && rank == state.External {
		return "is the address of an endpoint"
	}
	return ""
}

// broadcast returns the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func networkOf(networks []netip.Prefix, a netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return networks[i], true
}
