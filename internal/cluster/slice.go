// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func (f *form) slice(s *discoveryv1.EndpointSlice) {
	f.head(s)
	list(f, &s.Ports, func(p *discoveryv1.EndpointPort) {
		maybe(f, &p.Name)
		maybe(f, &p.Protocol)
		optional(f, &p.Port, f.int32)
	})
	list(f, &s.Endpoints, f.endpoint)
}

// head holds the owner of the endpoints, and the type of their addresses.
func (f *form) head(s *discoveryv1.EndpointSlice) {
	owner := s.Labels[discoveryv1.LabelServiceName]
	_, headless := s.Labels[corev1.IsHeadlessService]
	f.names(&s.Namespace, &s.Name, &owner)
	f.flag(&headless)
	word(f, &s.AddressType)
	if f.writing || owner == "" && !headless {
		return
	}
	s.Labels = map[string]string{}
	if owner != "" {
		s.Labels[discoveryv1.LabelServiceName] = owner
	}
	if headless {
		s.Labels[corev1.IsHeadlessService] = ""
	}
}

// names are those of the Service and of the EndpointSlice, which usually begins with the former.
func (f *form) names(namespace, own, owner *string) {
	f.key(namespace, owner)
	f.ending(own, *owner)
}

func (f *form) endpoint(e *discoveryv1.Endpoint) {
	f.conditions(&e.Conditions)
	list(f, &e.Addresses, f.address)
	maybe(f, &e.NodeName)
	maybe(f, &e.Zone)
	f.hints(&e.Hints)
}

// conditions are one number, with two bits for each.
func (f *form) conditions(c *discoveryv1.EndpointConditions) {
	all := []**bool{&c.Ready, &c.Serving, &c.Terminating}
	var said uint64
	for i, one := range all {
		said |= saying(*one) << (2 * i)
	}
	f.number(&said)
	if f.writing {
		return
	}
	for i, one := range all {
		if bits := said >> (2 * i) & 3; bits != 0 {
			*one = new(bits == 2)
		}
	}
}

// saying returns 0 for nil, 1 for false and 2 for true.
func saying(b *bool) uint64 {
	switch {
	case b == nil:
		return 0
	case *b:
		return 2
	}
	return 1
}

// hints without any zone or node are the same as none.
func (f *form) hints(h **discoveryv1.EndpointHints) {
	given := *h
	if given != nil && len(given.ForZones)+len(given.ForNodes) == 0 {
		given = nil
	}
	optional(f, &given, func(h *discoveryv1.EndpointHints) {
		list(f, &h.ForZones, func(z *discoveryv1.ForZone) { word(f, &z.Name) })
		list(f, &h.ForNodes, func(n *discoveryv1.ForNode) { word(f, &n.Name) })
	})
	if !f.writing {
		*h = given
	}
}
