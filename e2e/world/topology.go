// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"net/netip"
	"slices"
)

// Topology describes a world. Names are at most ten characters long, to fit into link names.
type Topology struct {
	Nodes []Node
	// Outside are hosts on the nodes' network that are no part of the cluster.
	Outside []Outside
}

// Node is a host with pods behind it. It routes to the pods of all other nodes.
type Node struct {
	Name string
	// Addresses are on the segment that joins the nodes and the outside.
	Addresses []netip.Prefix
	// PodCIDRs are the networks of its pods. The first address of each is the pods' gateway.
	PodCIDRs []netip.Prefix
	Pods     []Pod
	// Forward turns on forwarding. Leave it out where the service proxy has to do that.
	Forward bool
}

// Pod is a host behind a node.
type Pod struct {
	Name      string
	Addresses []netip.Addr
}

// Outside is a host on the nodes' segment. It has no routes to pods: as in most clusters, it does not answer a packet
// from a pod's address.
type Outside struct {
	Name      string
	Addresses []netip.Prefix
	// Routes are what an operator has configured for the cluster's addresses.
	Routes []Route
}

// Route is a route to a network.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Small returns two nodes, five pods and a client outside. The service proxy goes on node-1; node-2 is a plain router.
func Small() Topology {
	one := Node{
		Name:      "node-1",
		Addresses: prefixes("192.0.2.1/24", "2001:db8:1::1/64"),
		PodCIDRs:  prefixes("10.244.1.0/24", "fd00:10:244:1::/64"),
		Pods: []Pod{
			{Name: "pod-a", Addresses: addrs("10.244.1.10", "fd00:10:244:1::10")},
			{Name: "pod-b", Addresses: addrs("10.244.1.11", "fd00:10:244:1::11")},
			{Name: "pod-client", Addresses: addrs("10.244.1.12", "fd00:10:244:1::12")},
			{Name: "pod-c", Addresses: addrs("10.244.1.13", "fd00:10:244:1::13")},
		},
	}
	two := Node{
		Name:      "node-2",
		Addresses: prefixes("192.0.2.2/24", "2001:db8:1::2/64"),
		PodCIDRs:  prefixes("10.244.2.0/24", "fd00:10:244:2::/64"),
		Pods:      []Pod{{Name: "pod-d", Addresses: addrs("10.244.2.10", "fd00:10:244:2::10")}},
		Forward:   true,
	}
	client := Outside{
		Name:      "client",
		Addresses: prefixes("192.0.2.100/24", "2001:db8:1::100/64"),
		Routes:    RoutesToServices(),
	}
	return Topology{Nodes: []Node{one, two}, Outside: []Outside{client}}
}

// RoutesToServices returns routes to node-1 of the small world for all addresses that Services may have there: cluster
// IPs, load balancers' and external addresses.
func RoutesToServices() []Route {
	var list []Route
	for _, p := range prefixes("10.96.0.0/16", "203.0.113.0/24", "198.51.100.0/24") {
		list = append(list, Route{p, netip.MustParseAddr("192.0.2.1")})
	}
	for _, p := range prefixes("fd00:10:96::/112", "2001:db8:1b::/112", "2001:db8:e::/112") {
		list = append(list, Route{p, netip.MustParseAddr("2001:db8:1::1")})
	}
	return list
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

// addresses returns the prefixes without their lengths.
func addresses(list []netip.Prefix) []netip.Addr {
	var bare []netip.Addr
	for _, p := range list {
		bare = append(bare, p.Addr())
	}
	return bare
}

// hostPrefixes returns the prefixes that cover one address each.
func hostPrefixes(list []netip.Addr) []netip.Prefix {
	var full []netip.Prefix
	for _, a := range list {
		full = append(full, netip.PrefixFrom(a, a.BitLen()))
	}
	return full
}

// gateways returns the addresses that the node has in its pod networks.
func (n Node) gateways() []netip.Addr {
	var list []netip.Addr
	for _, p := range n.PodCIDRs {
		list = append(list, p.Masked().Addr().Next())
	}
	return list
}

// routes returns the routes from any other node to the pods of n.
func (n Node) routes() ([]Route, error) {
	var list []Route
	for _, cidr := range n.PodCIDRs {
		via := slices.IndexFunc(n.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == cidr.Addr().Is4() })
		if via < 0 {
			return nil, fmt.Errorf("route to %v: %s has no address of its family", cidr, n.Name)
		}
		list = append(list, Route{To: cidr, Via: n.Addresses[via].Addr()})
	}
	return list, nil
}
