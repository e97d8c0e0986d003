// SPDX-License-Identifier: Apache-2.0

package plan

import (
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
}

// rank decides which of two slices to believe that tell of one endpoint, as
// they do while it moves from one to the other. It must not depend on the
// order of the slices. That a pod is not terminating beats all: the slice that
// says so tells of a newer pod with the same address.
func (e endpoint) rank() int {
	rank := 0
	for _, good := range []bool{!e.terminating, e.ready, e.serving, e.local} {
		rank *= 2
		if good {
			rank++
		}
	}
	return rank
}

// endpoints are those of a Service, by port.
type endpoints map[endpointsKey]map[netip.AddrPort]endpoint

type endpointsKey struct {
	family state.Family
	port   portName
}

func (e endpoints) merge(f state.Family, p portName, seen endpoint) {
	k := endpointsKey{f, p}
	if e[k] == nil {
		e[k] = map[netip.AddrPort]endpoint{}
	}
	if known, ok := e[k][seen.address]; !ok || seen.rank() > known.rank() {
		e[k][seen.address] = seen
	}
}

// of are the endpoints of one port, sorted by address.
func (e endpoints) of(f state.Family, p portName) []endpoint {
	var list []endpoint
	for _, seen := range e[endpointsKey{f, p}] {
		list = append(list, seen)
	}
	slices.SortFunc(list, func(a, b endpoint) int { return a.address.Compare(b.address) })
	return list
}

// reachable are the endpoints that get traffic: the ready ones. If there are
// none, those that still serve while they terminate are better than nobody.
func reachable(all []endpoint) []endpoint {
	ready := filter(all, func(e endpoint) bool { return e.ready })
	if len(ready) > 0 {
		return ready
	}
	return filter(all, func(e endpoint) bool { return e.serving && e.terminating })
}

func filter(all []endpoint, keep func(endpoint) bool) []endpoint {
	var kept []endpoint
	for _, e := range all {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
