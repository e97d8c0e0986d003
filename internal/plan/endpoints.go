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

// endpoint is one address and port behind a port of a Service.
type endpoint struct {
	address     netip.AddrPort
	ready       bool // takes traffic; even while terminating, if the Service publishes such endpoints
	serving     bool // could take traffic, terminating or not
	terminating bool
	local       bool // on this node
	zone        string
	byNode      hint
	byZone      hint
}

// hint is what an endpoint's hints of one kind mean for this node.
type hint uint8

const (
	unhinted hint = iota // there are none
	hinted               // only for others
	hintedUs             // for this node, or its zone
)

// compare orders two reports of one endpoint, the less credible first. Two slices have the same endpoint while it moves
// from one to the other. The result must not depend on the order of the slices. "Not terminating" wins: that slice is
// about a newer pod with the same address.
func (e endpoint) compare(o endpoint) int {
	return cmp.Or(
		compareBool(!e.terminating, !o.terminating),
		compareBool(e.ready, o.ready),
		compareBool(e.serving, o.serving),
		compareBool(e.local, o.local),
		cmp.Compare(e.byNode, o.byNode),
		cmp.Compare(e.byZone, o.byZone),
		cmp.Compare(e.zone, o.zone),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// endpoints are those of a Service, by port, as its slices report them.
type endpoints map[endpointsKey][]endpoint

type endpointsKey struct {
	family state.Family
	port   portName
}

// of returns the endpoints of one port, sorted by address: of several reports of one, the most credible.
func (e endpoints) of(f state.Family, p portName) []endpoint {
	k := endpointsKey{f, p}
	list := e[k]
	slices.SortFunc(list, func(a, b endpoint) int { return cmp.Or(a.address.Compare(b.address), b.compare(a)) })
	e[k] = slices.CompactFunc(list, func(a, b endpoint) bool { return a.address == b.address })
	return e[k]
}

// localReady counts the family's addresses with a ready endpoint on this node, for health checks.
func (e endpoints) localReady(f state.Family) int {
	addresses := map[netip.Addr]struct{}{}
	for k := range e {
		if k.family != f {
			continue
		}
		for _, seen := range e.of(f, k.port) {
			if seen.local && seen.ready {
				addresses[seen.address.Addr()] = struct{}{}
			}
		}
	}
	return len(addresses)
}

// chosen are the endpoints that get traffic.
type chosen struct {
	cluster []endpoint // by policy Cluster
	local   []endpoint // by policy Local
	any     bool       // some endpoint could take traffic, anywhere
}

// choose selects endpoints as the reference does (kube-proxy's CategorizeEndpoints).
func choose(all []endpoint) chosen {
	c := chosen{
		cluster: filter(all, byHints(all)),
		local:   filter(all, func(e endpoint) bool { return e.local && e.ready }),
	}
	if len(c.cluster) == 0 {
		c.cluster = filter(all, stillServing)
	}
	if len(c.local) == 0 {
		c.local = filter(all, func(e endpoint) bool { return e.local && stillServing(e) })
	}
	c.any = slices.ContainsFunc(all, func(e endpoint) bool { return e.ready || stillServing(e) })
	return c
}

// stillServing reports whether an endpoint serves while it terminates. Such endpoints are used if there are no others.
func stillServing(e endpoint) bool { return e.serving && e.terminating }

// byHints returns which ready endpoints get this node's traffic. Hints of a kind count only if every ready endpoint has
// some and one is for us, so that no node is left without any.
func byHints(all []endpoint) func(endpoint) bool {
	ready := filter(all, func(e endpoint) bool { return e.ready })
	for _, kind := range []func(endpoint) hint{
		func(e endpoint) hint { return e.byNode },
		func(e endpoint) hint { return e.byZone },
	} {
		someForUs := slices.ContainsFunc(ready, func(e endpoint) bool { return kind(e) == hintedUs })
		someWithout := slices.ContainsFunc(ready, func(e endpoint) bool { return kind(e) == unhinted })
		if someForUs && !someWithout {
			return func(e endpoint) bool { return e.ready && kind(e) == hintedUs }
		}
	}
	return func(e endpoint) bool { return e.ready }
}

// filter returns the endpoints to keep: all itself if that is all of them, as is usual.
func filter(all []endpoint, keep func(endpoint) bool) []endpoint {
	if !slices.ContainsFunc(all, func(e endpoint) bool { return !keep(e) }) {
		return all
	}
	var kept []endpoint
	for _, e := range all {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// labelHeadless marks slices that are for DNS alone, with any value.
const labelHeadless = "service.kubernetes.io/headless"

// parseSlices merges the slices of a Service. It skips slices and ports that the Service does not use, without notes on
// their mistakes.
func parseSlices(o Objects, s service, n Node, ns *notes) endpoints {
	e := endpoints{}
	wanted := map[portName]bool{}
	for _, p := range s.ports {
		wanted[p.portName] = true
	}
	list := slices.DeleteFunc(slices.Clone(o.Slices), func(s *discoveryv1.EndpointSlice) bool { return s == nil })
	// The order of notes does not depend on the order of slices.
	slices.SortStableFunc(list, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, slice := range list {
		r := reader{slice: slice, field: "endpointSlices[" + slice.Name + "].", node: n, notes: ns}
		if f, ok := r.family(s); ok {
			r.read(f, wanted, e)
		}
	}
	return e
}

// reader reads one slice.
type reader struct {
	slice *discoveryv1.EndpointSlice
	field string // how notes begin
	node  Node
	notes *notes
}

// family returns the family of the slice, if the slice has anything for the Service.
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
		k := endpointsKey{f, p.portName}
		e[k] = slices.Grow(e[k], len(r.slice.Endpoints))
	}
	for i := range r.slice.Endpoints {
		a, ok := r.address(i, f)
		if !ok {
			continue
		}
		one := r.endpoint(i)
		for _, p := range ports {
			k := endpointsKey{f, p.portName}
			one.address = netip.AddrPortFrom(a, p.number)
			e[k] = append(e[k], one)
		}
	}
}

// ports returns the wanted ports of the slice. A missing name or protocol means the API server's default. A missing
// number would mean all ports, which one virtual server cannot serve.
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

// address returns the first of an endpoint's addresses. By the API, the others name the same endpoint.
func (r reader) address(i int, f state.Family) (netip.Addr, bool) {
	addresses := r.slice.Endpoints[i].Addresses
	if len(addresses) == 0 {
		r.notes.add(state.InvalidAddress, fmt.Sprintf("%sendpoints[%d].addresses", r.field, i), "empty")
		return netip.Addr{}, false
	}
	a, err := parseAddr(addresses[0])
	if err == nil {
		err = checkEndpoint(a)
	}
	if err == nil && state.FamilyOf(a) != f {
		err = fmt.Errorf("%v is not an %v address", a, f)
	}
	if err != nil {
		r.notes.add(state.InvalidAddress, fmt.Sprintf("%sendpoints[%d].addresses[0]", r.field, i), "%v", err)
	}
	return a, err == nil
}

// endpoint returns endpoint i without its address. Defaults: ready, serving, not terminating, not local.
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

// hintOf returns what hints of one kind mean for us. us is empty if we have no name.
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
