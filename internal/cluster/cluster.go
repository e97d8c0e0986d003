// SPDX-License-Identifier: Apache-2.0

// Package cluster is the seam to where Kubernetes objects come from: a Source tells a Sink which objects a
// Service consists of now, whenever they change. Index is the part that every source needs: it keeps objects
// of both kinds together and says whose Service a change really concerns.
//
// The package knows no API server and no file (its sub-packages do), and nothing of what an object means:
// that is the plan package's business.
package cluster

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Source is a place that objects come from.
type Source interface {
	// Run tells sink all there is, then each change, until ctx ends; that is no error. All calls to sink come
	// from one goroutine. An error means that the source cannot go on; what it told before stays true as far
	// as known.
	Run(ctx context.Context, sink Sink) error
}

// Sink is told of objects. It must not change them; the source does not change them either after it told of
// them.
type Sink interface {
	// Service tells all objects of one Service. None means that there is no such Service (any more).
	Service(key types.NamespacedName, o *Objects)

	// Place tells what is around the Services. It is called when something of it changed that is used.
	Place(Place)

	// Listed says how much has been told by now. It is called once with Complete, and perhaps once before
	// that with Restored. Nothing may be concluded from what was not told before Complete.
	Listed(Extent)
}

// Place is what is around the Services.
type Place struct {
	Node   *corev1.Node   // this node's own; nil: there is none (any more)
	Others []*corev1.Node // the other Nodes that are known, sorted by name

	// ServiceCIDRs are the cluster's networks of cluster IPs, sorted. None: they are not known.
	ServiceCIDRs []netip.Prefix
}

// Extent is how much has been told.
type Extent uint8

// The extents.
const (
	// Restored is all that was known some time ago. What is told may be used, but what was not told may be
	// there all the same.
	Restored Extent = iota + 1
	// Complete is all that there is.
	Complete
)
