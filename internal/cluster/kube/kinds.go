// SPDX-License-Identifier: Apache-2.0

package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// kind is one kind of objects: where they are, which are wanted, and what becomes of them.
type kind struct {
	client         rest.Interface
	resource       string
	labels, fields string // selectors: the API server leaves out the rest

	// optional: an API server that does not know the kind, or keeps it from us, is taken for one that has
	// none.
	optional bool

	object runtime.Object           // an empty one
	keep   func(runtime.Object) any // what is kept of one that came

	// keys, set and remove are of the index.
	keys   func(*cluster.Index) []types.NamespacedName
	set    func(x *cluster.Index, kept any, c *changes)
	remove func(*cluster.Index, types.NamespacedName, *changes)
}

const kindCount = 4

// kinds are all that is watched, with kube-proxy's selectors. The order is that in which they are taken in.
func kinds(c Client, node string) [kindCount]kind {
	return [kindCount]kind{
		serviceCIDRs(c.Networking()),
		thisNode(c.Core(), node),
		services(c.Core()),
		endpointSlices(c.Discovery(), node),
	}
}

func services(c rest.Interface) kind {
	return kind{
		client: c, resource: "services",
		labels: "!" + labelProxyName,
		fields: "spec.clusterIP!=" + corev1.ClusterIPNone,
		object: &corev1.Service{},
		keep:   func(o runtime.Object) any { return cluster.OfService(o.(*corev1.Service)) },
		keys:   (*cluster.Index).Services,
		set: func(x *cluster.Index, kept any, c *changes) {
			c.services = append(c.services, x.SetService(kept.(cluster.Service))...)
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *changes) {
			c.services = append(c.services, x.DeleteService(key)...)
		},
	}
}

func endpointSlices(c rest.Interface, node string) kind {
	return kind{
		client: c, resource: "endpointslices",
		labels: "!" + corev1.IsHeadlessService,
		object: &discoveryv1.EndpointSlice{},
		keep: func(o runtime.Object) any {
			s := o.(*discoveryv1.EndpointSlice)
			stripSlice(s, node)
			return cluster.OfSlice(s)
		},
		keys: (*cluster.Index).Slices,
		set: func(x *cluster.Index, kept any, c *changes) {
			c.services = append(c.services, x.SetSlice(kept.(cluster.Slice))...)
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *changes) {
			c.services = append(c.services, x.DeleteSlice(key)...)
		},
	}
}

func thisNode(c rest.Interface, name string) kind {
	return kind{
		client: c, resource: "nodes",
		fields: "metadata.name=" + name,
		object: &corev1.Node{},
		keep: func(o runtime.Object) any {
			stripNode(o.(*corev1.Node))
			return o
		},
		keys: func(x *cluster.Index) []types.NamespacedName { return unspaced(x.Nodes()) },
		set: func(x *cluster.Index, kept any, c *changes) {
			c.place = x.SetNode(kept.(*corev1.Node)) || c.place
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *changes) {
			c.place = x.DeleteNode(key.Name) || c.place
		},
	}
}

func serviceCIDRs(c rest.Interface) kind {
	return kind{
		client: c, resource: "servicecidrs",
		optional: true,
		object:   &networkingv1.ServiceCIDR{},
		keep: func(o runtime.Object) any {
			stripServiceCIDR(o.(*networkingv1.ServiceCIDR))
			return o
		},
		keys: func(x *cluster.Index) []types.NamespacedName { return unspaced(x.ServiceCIDRs()) },
		set: func(x *cluster.Index, kept any, c *changes) {
			c.place = x.SetServiceCIDR(kept.(*networkingv1.ServiceCIDR)) || c.place
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *changes) {
			c.place = x.DeleteServiceCIDR(key.Name) || c.place
		},
	}
}

// unspaced are keys of what is in no namespace.
func unspaced(names []string) []types.NamespacedName {
	var keys []types.NamespacedName
	for _, name := range names {
		keys = append(keys, types.NamespacedName{Name: name})
	}
	return keys
}
