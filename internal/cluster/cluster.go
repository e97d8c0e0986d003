// SPDX-License-Identifier: Apache-2.0

// Package cluster defines where Kubernetes objects come from: a Source reports to a Sink the objects of each Service,
// and what is around them, whenever they change. Index, which every source uses, joins the objects and finds the
// Service that a change concerns. Objects are kept in a compact form (Service, Slice).
//
// Its sub-packages know the API server and files. What an object means is decided in package plan.
package cluster

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Source is a place that objects come from.
type Source interface {
	// Run reports all objects to sink, then each change, until ctx ends, which is no error. All calls to sink come from
	// one goroutine. An error means that the source cannot go on; what it reported stays valid.
	Run(ctx context.Context, sink Sink) error
}

// Sink receives objects. Neither the sink nor the source changes them afterwards.
type Sink interface {
	// Service reports all objects of one Service. nil: there is no such Service (any more).
	Service(key types.NamespacedName, o *Objects)

	// Place reports what is around the Services, when a part that is used changed.
	Place(Place)

	// Listed reports how much was reported so far: Complete once, and perhaps Restored before it. Before Complete, an
	// object that was not reported may exist.
	Listed(Extent)
}

// Place is what is around the Services.
type Place struct {
	Node   *corev1.Node   // of this node; nil: there is none (any more)
	Others []*corev1.Node // the other Nodes that are known, sorted by name

	// ServiceCIDRs are the cluster's networks of cluster IPs, sorted. None: they are not known.
	ServiceCIDRs []netip.Prefix
}

// Extent is how much was reported.
type Extent uint8

// The extents.
const (
	// Restored: all that was known some time ago. There may be other objects by now.
	Restored Extent = iota + 1
	// Complete: all objects.
	Complete
)

// Changes are what a source has to report to its sink.
type Changes struct {
	Services map[types.NamespacedName]bool
	Place    bool
}

// AddPlace notes whether the Place changed.
func (c *Changes) AddPlace(changed bool) { c.Place = c.Place || changed }

// Add notes changed Services.
func (c *Changes) Add(keys []types.NamespacedName) {
	if c.Services == nil {
		c.Services = map[types.NamespacedName]bool{}
	}
	for _, key := range keys {
		c.Services[key] = true
	}
}

// Report reports changes in x to sink, as the named Node sees them. The Place comes first, because the meaning of
// Services depends on it. Then come deleted Services, because others may have their addresses now.
func (c Changes) Report(x *Index, node string, sink Sink) {
	if c.Place {
		sink.Place(x.Place(node))
	}
	keys := slices.SortedFunc(maps.Keys(c.Services), CompareKeys)
	for _, deleted := range []bool{true, false} {
		for _, key := range keys {
			if x.Has(key) != deleted {
				sink.Service(key, x.Objects(key))
			}
		}
	}
}
