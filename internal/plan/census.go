// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Presence is what is known to be at an address.
type Presence uint8

// The Service of the API servers. Their endpoints name no node.
const (
	Vacant   Presence = iota
	Endpoint          // without a node: of a Service without a selector, or of another cluster
	Located           // an endpoint on a node, as every pod's is, or an API server
)

// Census knows at which addresses the cluster has endpoints, and which Services want an address for clients from
// outside. A Service with the address of an endpoint would cut the node off from that endpoint. K is the caller's name
// of a Service.
//
// A change costs its own size. An IPv4 address takes some twenty bytes.
type Census[K comparable] struct {
	ipv4 map[[4]byte]counts
	ipv6 map[[16]byte]counts
	want map[netip.Addr][]K
}

// counts are how many endpoints report an address.
type counts struct{ all, located uint32 }

func (c counts) presence() Presence {
	switch {
	case c.located > 0:
		return Located
	case c.all > 0:
		return Endpoint
	}
	return Vacant
}

// NewCensus returns an empty Census.
func NewCensus[K comparable]() *Census[K] {
	return &Census[K]{ipv4: map[[4]byte]counts{}, ipv6: map[[16]byte]counts{}, want: map[netip.Addr][]K{}}
}

// Move replaces EndpointSlices by others. It returns the addresses with a new Presence, and those now vacant.
func (c *Census[K]) Move(left, came []*discoveryv1.EndpointSlice) (arrived, vacant []netip.Addr) {
	before := map[netip.Addr]Presence{}
	for i, list := range [][]*discoveryv1.EndpointSlice{left, came} {
		step := [...]int32{-1, 1}[i]
		for _, s := range list {
			server := s.Namespace == metaDefault && s.Labels[discoveryv1.LabelServiceName] == serverService
			for j := range s.Endpoints {
				e := &s.Endpoints[j]
				c.add(e.Addresses, server || orZero(e.NodeName) != "", step, before)
			}
		}
	}
	for a, was := range before {
		switch is := c.at(a); {
		case is == was:
		case is == Vacant:
			vacant = append(vacant, a)
		default:
			arrived = append(arrived, a)
		}
	}
	slices.SortFunc(arrived, netip.Addr.Compare)
	slices.SortFunc(vacant, netip.Addr.Compare)
	return arrived, vacant
}

// The Service of the API servers. Who runs on no node says so of none.
const (
	metaDefault   = "default"
	serverService = "kubernetes"
)

func (c *Census[K]) add(addresses []string, located bool, step int32, before map[netip.Addr]Presence) {
	for _, text := range addresses {
		a, err := parseAddr(text)
		if err != nil {
			continue
		}
		if _, known := before[a]; !known {
			before[a] = c.at(a)
		}
		if a.Is4() {
			count(c.ipv4, a.As4(), located, step)
		} else {
			count(c.ipv6, a.As16(), located, step)
		}
	}
}

func count[A comparable](all map[A]counts, a A, located bool, step int32) {
	h := all[a]
	h.all += uint32(step)
	if located {
		h.located += uint32(step)
	}
	if all[a] = h; h.all == 0 {
		delete(all, a)
	}
}

func (c *Census[K]) at(a netip.Addr) Presence {
	if a.Is4() {
		return c.ipv4[a.As4()].presence()
	}
	return c.ipv6[a.As16()].presence()
}

// Want replaces a Service by its new version; nil: it does not exist.
func (c *Census[K]) Want(k K, was, is *corev1.Service) {
	for _, a := range outsideAddresses(was) {
		c.want[a] = slices.DeleteFunc(c.want[a], func(o K) bool { return o == k })
		if len(c.want[a]) == 0 {
			delete(c.want, a)
		}
	}
	for _, a := range outsideAddresses(is) {
		c.want[a] = append(c.want[a], k)
	}
}

// Wanting returns the Services that want one of the addresses, each once.
func (c *Census[K]) Wanting(addresses ...netip.Addr) []K {
	var all []K
	for _, a := range addresses {
		for _, k := range c.want[a] {
			if !slices.Contains(all, k) {
				all = append(all, k)
			}
		}
	}
	return all
}

// Of returns the presences at the addresses that a Service wants, without vacant ones.
func (c *Census[K]) Of(s *corev1.Service) map[netip.Addr]Presence {
	var present map[netip.Addr]Presence
	for _, a := range outsideAddresses(s) {
		if p := c.at(a); p != Vacant {
			if present == nil {
				present = map[netip.Addr]Presence{}
			}
			present[a] = p
		}
	}
	return present
}

// outsideAddresses returns a Service's addresses for clients from outside, each once.
func outsideAddresses(s *corev1.Service) []netip.Addr {
	if s == nil {
		return nil
	}
	texts := slices.Clone(s.Spec.ExternalIPs[:min(len(s.Spec.ExternalIPs), maxAddresses)])
	ingress := s.Status.LoadBalancer.Ingress
	for i := range ingress[:min(len(ingress), maxAddresses)] {
		texts = append(texts, ingress[i].IP)
	}
	var list []netip.Addr
	for _, text := range texts {
		if a, err := parseAddr(text); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}
