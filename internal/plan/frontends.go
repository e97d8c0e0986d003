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
	entries []state.SetEntry // say whose it is, and steer its packets
	bound   bool             // the address is ours to have on the node
}

// frontends are all frontends of port p in the family of the cluster IP.
func frontends(p port, clusterIP netip.Addr, nodePortAddresses []netip.Addr) []frontend {
	list := []frontend{clusterFrontend(clusterIP, p)}
	if p.nodePort == 0 {
		return list
	}
	for _, a := range nodePortAddresses {
		list = append(list, nodeFrontend(a, p))
	}
	return list
}

func clusterFrontend(ip netip.Addr, p port) frontend {
	k := serverKey(ip, p.number, p.protocol)
	return frontend{
		field:   p.field + ".port",
		comment: p.comment,
		server:  k,
		entries: []state.SetEntry{serverEntry(setClusterIP, k)},
		bound:   true,
	}
}

func nodeFrontend(address netip.Addr, p port) frontend {
	k := serverKey(address, p.nodePort, p.protocol)
	return frontend{
		field:   p.field + ".nodePort",
		comment: p.comment,
		server:  k,
		entries: []state.SetEntry{nodePortEntry(k)},
	}
}

func serverKey(a netip.Addr, port uint16, p state.Protocol) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.AddrPortFrom(a, port), Protocol: p}
}

// nodePortAddresses are the node's addresses of family f at which NodePorts
// are served, sorted. Those on the loopback device are none: IPVS can't send
// what comes from 127.0.0.0/8 to another host.
func nodePortAddresses(n Node, c config.Config, f state.Family) []netip.Addr {
	var networks []netip.Prefix
	for _, p := range c.NodePortAddresses {
		if state.FamilyOf(p.Addr()) == f {
			networks = append(networks, p)
		}
	}
	var list []netip.Addr
	for _, a := range n.Addresses {
		a = a.Unmap()
		inside := len(networks) == 0 ||
			slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
		if inside && a.IsValid() && a.Zone() == "" && state.FamilyOf(a) == f && servable(a) == nil {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
