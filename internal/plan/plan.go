// SPDX-License-Identifier: Apache-2.0

// Package plan says what a Service means: which rows its objects put into the kernel's tables of one node,
// and which rows are there without any Service.
//
// It is the one place that reads Kubernetes objects. It is pure, and total: what is wrong in an object costs
// the piece that is wrong, never the rest, and is said in a note. How rows of different Services get along is
// package desired's business, how they reach the kernel package reconcile's.
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

	// Present is who is known to be at those addresses which the Service has for clients from outside
	// (Census.Of).
	Present map[netip.Addr]Presence
}

// Node is what counts of the node that is planned for.
type Node struct {
	Name string
	Zone string // of its label; empty: unknown

	// IPs are the addresses that its Node object has, at most one of a family, or the operator chose (At).
	// The first is of the node's primary family.
	IPs []netip.Addr

	// Addresses are those of its interfaces, but for state.DummyLink.
	Addresses []netip.Addr

	// Networks are the IPv4 networks that these are in; their first and last addresses are nobody's.
	Networks []netip.Prefix

	// PodCIDRs are the networks of this node's pods, by its Node object.
	PodCIDRs []netip.Prefix

	// MTU is what all devices carry that packets leave the node by. 0: unknown.
	MTU uint32

	// Others are addresses that somebody else is reached at, and who that is: other nodes, API servers,
	// gateways. Whoever took one of these for a Service would cut the node off from them.
	Others map[netip.Addr]string
}

// Fragment and Note live in package state, so that who merges and shows them needs to know no Kubernetes.
type (
	Fragment = state.Fragment
	Note     = state.Note
)

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
