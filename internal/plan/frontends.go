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
	entries []state.SetEntry // say whose it is, and which rules its packets meet
	bound   bool             // the address is ours to have on the node
	node    bool             // it is a NodePort
	rank    state.Rank       // by what right the Service has the address

	// local lets only endpoints of this node serve, by its traffic policy.
	local bool
	// guarded lets only the Service's source ranges in.
	guarded bool
	// outside is for clients from outside the cluster. Others, this node and its pods, get all endpoints also
	// where local is set, since they need no load balancer to come to the right node.
	outside bool
}

// frontends are all frontends of port p in the family of the cluster IP. Load balancer addresses come before
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
		field:   p.field + ".port",
		comment: p.comment,
		server:  k,
		entries: []state.SetEntry{serverEntry(setClusterIP, k)},
		bound:   true,
		local:   s.internalLocal,
	}
}

func (s service) externalFrontend(p port, at located) frontend {
	k := serverKey(at.Addr, p.number, p.protocol)
	set := setExternalIP
	if s.externalLocal {
		set = setExternalIPLocal
	}
	return frontend{
		field:   at.field,
		comment: p.comment,
		server:  k,
		entries: []state.SetEntry{serverEntry(set, k)},
		bound:   true,
		rank:    state.External,
		local:   s.externalLocal,
		outside: true,
	}
}

func (s service) loadBalancerFrontend(p port, at located, v vicinity) frontend {
	k := serverKey(at.Addr, p.number, p.protocol)
	entries := []state.SetEntry{serverEntry(setLoadBalancer, k)}
	if s.externalLocal {
		entries = append(entries, serverEntry(setLoadBalancerLocal, k))
	}
	return frontend{
		field:   at.field,
		comment: p.comment,
		server:  k,
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
	entries := []state.SetEntry{nodePortEntry(k)}
	if s.externalLocal {
		entries = append(entries, nodePortLocalEntry(k))
	}
	if v.config.NodePortSourceRanges {
		entries = append(entries, s.guards(k, v)...)
	}
	return frontend{
		field:   p.field + ".nodePort",
		comment: p.comment,
		server:  k,
		entries: entries,
		node:    true,
		guarded: v.config.NodePortSourceRanges,
		local:   s.externalLocal,
		outside: true,
	}
}

// guards are the entries that let only the Service's source ranges in. A client on the node itself has the
// node's address or, to an address that is bound, that very address as its source; not to one that is routed,
// but it may have been assigned a moment ago.
func (s service) guards(k state.VirtualServerKey, v vicinity) []state.SetEntry {
	ranges, guarded := s.ranges[k.Family()]
	if !guarded {
		return nil
	}
	entries := []state.SetEntry{serverEntry(setLoadBalancerFW, k)}
	for _, r := range ranges {
		e := serverEntry(setLoadBalancerSourceCIDR, k)
		e.Source = r
		entries = append(entries, e)
	}
	if v.inside(ranges) {
		e := serverEntry(setLoadBalancerSourceIP, k)
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

// inside says whether one of the node's addresses is in one of the ranges.
func (v vicinity) inside(ranges []netip.Prefix) bool {
	addresses := v.node.IPs
	if len(addresses) == 0 { // there is no Node object, or it knows none
		addresses = v.node.Addresses
	}
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool {
		return slices.ContainsFunc(addresses, r.Contains)
	})
}

// binding is how Service addresses of family f are bound.
//
// The node's own packets to them go by the loopback device as long as nobody has looked at where they end: a
// datagram that fits that is sent whole and not to be fragmented, and IPVS drops it if the endpoint's device
// carries less. So they are told to fit what all devices carry. IPv6 has no use for it: there nothing is
// fragmented before IPVS, which drops whatever is too large (ip_vs_xmit.c).
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

// source is where the node's own packets to routed addresses of family f come from: the address that the Node
// object has, by which others know the node. If no interface has that, a route can't name it. Of IPv4 the
// kernel takes the Service address itself then, as if it were assigned. Of IPv6 it would take an address of
// any interface, that of a bridge of pods too, and the node be taken for a pod; so one that is none of theirs
// is named.
func (v vicinity) source(f state.Family) netip.Addr {
	isSource := func(a netip.Addr) bool { return state.FamilyOf(a) == f && slices.Contains(v.node.Addresses, a) }
	if i := slices.IndexFunc(v.node.IPs, isSource); i >= 0 {
		return v.node.IPs[i]
	}
	var first netip.Addr
	for _, a := range v.node.Addresses {
		contains := func(p netip.Prefix) bool { return p.Contains(a) }
		fit := f == state.IPv6 && a.Is6() && servable(a) == nil && !slices.ContainsFunc(v.config.LocalDetector.CIDRs, contains)
		if fit && (!first.IsValid() || a.Less(first)) {
			first = a
		}
	}
	return first
}

// nodePortAddresses are the node's addresses of family f at which NodePorts are served, sorted. Those on the
// loopback device are none: IPVS can't send what comes from 127.0.0.0/8 to another host.
func (v vicinity) nodePortAddresses(f state.Family) []netip.Addr {
	var list []netip.Addr
	for _, a := range v.node.Addresses {
		a = a.Unmap()
		if a.IsValid() && a.Zone() == "" && state.FamilyOf(a) == f && servable(a) == nil && v.servesNodePorts(a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func (v vicinity) servesNodePorts(a netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(a) }
	sameFamily := func(p netip.Prefix) bool { return state.FamilyOf(p.Addr()) == state.FamilyOf(a) }
	networks, primary := v.config.NodePortAddresses, v.config.NodePortPrimary
	switch {
	case slices.ContainsFunc(v.config.ExcludeCIDRs, contains):
		return false
	case slices.ContainsFunc(networks, contains), primary && slices.Contains(v.node.IPs, a):
		return true
	}
	return !primary && !slices.ContainsFunc(networks, sameFamily)
}
