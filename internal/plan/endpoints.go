// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// endpoint is one address and port behind a port of a Service.
type endpoint struct {
	address     netip.AddrPort
	ready       bool // takes traffic; also while it terminates, if the Service publishes such
	serving     bool // could take traffic; says nothing of terminating
	terminating bool
	local       bool // on the node that is planned for
	zone        string
	byNode      hint
	byZone      hint
}

// hint is what an endpoint's hints of one kind say to this node.
type hint uint8

const (
	unhinted hint = iota // there are none
	hinted               // only for others
	hintedUs             // for this node, or its zone
)

// compare orders two tellings of one endpoint by which one to believe less, as two slices have it while it
// moves from one to the other. It must not depend on the order of the slices. That a pod is not terminating
// beats all: the slice that says so tells of a newer pod with the same address.
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

// endpoints are those of a Service, by port, as slices tell of them.
type endpoints map[endpointsKey][]endpoint

type endpointsKey struct {
	family state.Family
	port   portName
}

// expect makes room for n more.
func (e endpoints) expect(f state.Family, p portName, n int) {
	k := endpointsKey{f, p}
	e[k] = slices.Grow(e[k], n)
}

// tell takes in what one slice says.
func (e endpoints) tell(f state.Family, p portName, seen endpoint) {
	k := endpointsKey{f, p}
	e[k] = append(e[k], seen)
}

// of are the endpoints of one port, sorted by address: of several tellings of one, that to believe most.
func (e endpoints) of(f state.Family, p portName) []endpoint {
	k := endpointsKey{f, p}
	list := e[k]
	slices.SortFunc(list, func(a, b endpoint) int { return cmp.Or(a.address.Compare(b.address), b.compare(a)) })
	e[k] = slices.CompactFunc(list, func(a, b endpoint) bool { return a.address == b.address })
	return e[k]
}

// localReady counts the addresses of the family that have a ready endpoint on this node: what a load
// balancer's health check is told.
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
	any     bool       // there is somebody who could take traffic, somewhere
}

// choose is the reference's selection (kube-proxy's CategorizeEndpoints).
func choose(all []endpoint) chosen {
	c := chosen{
		cluster: filter(all, near(all)),
		local:   filter(all, func(e endpoint) bool { return e.local && e.ready }),
	}
	if len(c.cluster) == 0 {
		c.cluster = filter(all, leaving)
	}
	if len(c.local) == 0 {
		c.local = filter(all, func(e endpoint) bool { return e.local && leaving(e) })
	}
	c.any = slices.ContainsFunc(all, func(e endpoint) bool { return e.ready || leaving(e) })
	return c
}

// leaving are those that still serve while they terminate: better than nobody.
func leaving(e endpoint) bool { return e.serving && e.terminating }

// near says which ready endpoints get this node's traffic by their hints. Hints of a kind count only if every
// ready endpoint has some and one is for us: who made them knew them all, and nobody is left without.
func near(all []endpoint) func(endpoint) bool {
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

// filter returns all itself if all are kept, as most are.
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
