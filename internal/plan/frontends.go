// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"

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
	// outside is for clients from outside the cluster. This node and its pods get all endpoints even if local
	// is set: they need no load balancer to choose the node.
	outside bool
}

// frontends returns all frontends of port p in the family of the cluster IP. Load balancer addresses come
// before external IPs: an address that is both is guarded by the source ranges.
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

// guards returns the entries that let only the Service's source ranges in. A client on the node itself has
// the node's address as its source or, to a bound address, that very address. A routed address is not its own
// source, but it may have been assigned a moment ago.
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
