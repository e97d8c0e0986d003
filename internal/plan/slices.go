// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// labelHeadless marks slices that are for DNS alone, whatever its value.
const labelHeadless = "service.kubernetes.io/headless"

// parseSlices merges the slices of a Service. Slices and ports of no use to the Service are passed over:
// their mistakes are nobody's trouble.
func parseSlices(o Objects, s service, n Node, ns *notes) endpoints {
	e := endpoints{}
	names := map[portName]bool{}
	for _, p := range s.ports {
		names[p.portName] = true
	}
	for _, slice := range inOrder(o.Slices) {
		r := reader{slice: slice, field: "endpointSlices[" + slice.Name + "].", node: n, notes: ns}
		if f, ok := r.family(s); ok {
			r.read(f, names, e)
		}
	}
	return e
}

// inOrder makes the order of notes independent of the order of slices.
func inOrder(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	out := slices.DeleteFunc(slices.Clone(in), func(s *discoveryv1.EndpointSlice) bool { return s == nil })
	slices.SortStableFunc(out, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// reader reads one slice.
type reader struct {
	slice *discoveryv1.EndpointSlice
	field string // how notes begin
	node  Node
	notes *notes
}

// family is the family of the slice, if it has anything for the Service.
func (r reader) family(s service) (state.Family, bool) {
	if _, headless := r.slice.Labels[labelHeadless]; headless {
		return 0, false
	}
	if r.slice.Namespace != s.namespace || r.slice.Labels[discoveryv1.LabelServiceName] != s.name {
		r.notes.add(state.InvalidSlice, r.field+"metadata.labels", "the slice is another Service's")
		return 0, false
	}
	switch r.slice.AddressType {
	case discoveryv1.AddressTypeIPv4:
		return state.IPv4, s.has(state.IPv4)
	case discoveryv1.AddressTypeIPv6:
		return state.IPv6, s.has(state.IPv6)
	}
	r.notes.add(state.InvalidSlice, r.field+"addressType", "%.64q is not IPv4 or IPv6", r.slice.AddressType)
	return 0, false
}

// slicePort is one port number of a slice.
type slicePort struct {
	portName
	number uint16
}

func (r reader) read(f state.Family, wanted map[portName]bool, e endpoints) {
	ports := r.ports(wanted)
	if len(ports) == 0 {
		return
	}
	for _, p := range ports {
		e.expect(f, p.portName, len(r.slice.Endpoints))
	}
	for i := range r.slice.Endpoints {
		a, ok := r.address(i, f)
		if !ok {
			continue
		}
		seen := r.endpoint(i)
		for _, p := range ports {
			seen.address = netip.AddrPortFrom(a, p.number)
			e.tell(f, p.portName, seen)
		}
	}
}

// ports are the wanted ports of the slice. A missing name or protocol means what the API server would put
// there. A missing number would mean all ports, which a virtual server can't do.
func (r reader) ports(wanted map[portName]bool) []slicePort {
	var ports []slicePort
	seen := map[slicePort]bool{}
	for i, in := range r.slice.Ports {
		protocol, err := parseProtocol(orZero(in.Protocol))
		if err != nil {
			r.notes.add(state.InvalidProtocol, fmt.Sprintf("%sports[%d].protocol", r.field, i), "%v", err)
			continue
		}
		name := portName{name: orZero(in.Name), protocol: protocol}
		if !wanted[name] {
			continue
		}
		number, ok := parsePort(orZero(in.Port))
		if !ok {
			r.notes.add(state.InvalidPort, fmt.Sprintf("%sports[%d].port", r.field, i), "not a number in 1..65535")
			continue
		}
		if p := (slicePort{name, number}); !seen[p] {
			seen[p] = true
			ports = append(ports, p)
		}
	}
	return ports
}

// address is the first of an endpoint's addresses. The others are, by the API, further names of the same
// endpoint.
func (r reader) address(i int, f state.Family) (netip.Addr, bool) {
	addresses := r.slice.Endpoints[i].Addresses
	if len(addresses) == 0 {
		r.notes.add(state.InvalidAddress, fmt.Sprintf("%sendpoints[%d].addresses", r.field, i), "empty")
		return netip.Addr{}, false
	}
	a, err := parseAddr(addresses[0])
	if err == nil {
		err = endable(a)
	}
	if err == nil && state.FamilyOf(a) != f {
		err = fmt.Errorf("%v is not an %v address", a, f)
	}
	if err != nil {
		r.notes.add(state.InvalidAddress, fmt.Sprintf("%sendpoints[%d].addresses[0]", r.field, i), "%v", err)
	}
	return a, err == nil
}

// endpoint is what a slice says of its endpoint i, but for the address. What it does not say means ready,
// serving, not terminating, not local.
func (r reader) endpoint(i int) endpoint {
	in := &r.slice.Endpoints[i]
	hints := orZero(in.Hints)
	return endpoint{
		ready:       in.Conditions.Ready == nil || *in.Conditions.Ready,
		serving:     in.Conditions.Serving == nil || *in.Conditions.Serving,
		terminating: orZero(in.Conditions.Terminating),
		local:       r.node.Name != "" && orZero(in.NodeName) == r.node.Name,
		zone:        orZero(in.Zone),
		byNode:      hintOf(hints.ForNodes, func(n discoveryv1.ForNode) string { return n.Name }, r.node.Name),
		byZone:      hintOf(hints.ForZones, func(z discoveryv1.ForZone) string { return z.Name }, r.node.Zone),
	}
}

// hintOf is what hints of one kind say to us, who are nobody without a name.
func hintOf[T any](all []T, name func(T) string, us string) hint {
	switch {
	case len(all) == 0:
		return unhinted
	case us != "" && slices.ContainsFunc(all, func(h T) bool { return name(h) == us }):
		return hintedUs
	}
	return hinted
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
