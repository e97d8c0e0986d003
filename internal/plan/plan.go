// SPDX-License-Identifier: Apache-2.0

// Package plan turns Kubernetes objects into rows: those of one Service, and those that a node has without any Service.
//
// Only this package reads Kubernetes objects. It is pure and never fails: a mistake in an object costs only the faulty
// part, and becomes a note. Package desired settles conflicts between Services; package reconcile writes rows to the
// kernel.
package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Objects are a Service and its EndpointSlices. They are only read.
type Objects struct {
	Service *corev1.Service
	Slices  []*discoveryv1.EndpointSlice
	Present map[netip.Addr]Presence // at the Service's addresses for clients from outside (Census.Of)
}

// Node is what the plan needs to know of its node.
type Node struct {
	Name string
	Zone string // by its label; empty: unknown

	// IPs are the addresses of its Node object, or those that its operator chose (At): at most one of a family. The
	// first is of the node's primary family.
	IPs []netip.Addr

	Addresses []netip.Addr   // of its interfaces, without state.DummyLink
	Networks  []netip.Prefix // IPv4 networks of Addresses; no host has their first and last addresses
	PodCIDRs  []netip.Prefix // networks of this node's pods, by its Node object
	MTU       uint32         // what all devices carry by which packets leave the node; 0: unknown

	// Others are addresses of other nodes, API servers and gateways, with their names. No Service may take one.
	Others map[netip.Addr]string
}

// Fragment lives in package state, so that its users need no Kubernetes.
type Fragment = state.Fragment

// Service returns the rows of one Service on node n.
func Service(o Objects, n Node, c config.Config) Fragment {
	var ns notes
	if o.Service == nil || ns.skip(o.Service) {
		return Fragment{Notes: ns.all()}
	}
	s := parseService(o.Service, c, &ns)
	e := parseSlices(o, s, n, &ns)
	b := newBuilder(s, vicinity{n, c, o.Present}, &ns)
	for _, p := range s.ports {
		for _, ip := range s.clusterIPs {
			if f := state.FamilyOf(ip); slices.Contains(c.Families, f) {
				b.port(p, ip, e.of(f, p.portName))
			}
		}
	}
	b.serveInside()
	b.join(e)
	health := b.healthCheck(e)
	timeout, drains := drainTimeout(o.Service.Annotations, &ns)
	f := b.fragment()
	f.HealthCheck, f.DrainTimeout, f.Drains, f.Notes = health, timeout, drains, ns.all()
	return f
}
