// SPDX-License-Identifier: Apache-2.0

package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// kind is one kind of objects: where they are, which are wanted, and what
// becomes of them.
type kind struct {
	client         rest.Interface
	resource       string
	labels, fields string // selectors: the API server leaves out the rest

	// optional: an API server that does not know the kind, or keeps it from us,
	// is taken for one that has none.
	optional bool

	object  runtime.Object // an example
	newList func() runtime.Object
	strip   func(runtime.Object)

	// keys, set and remove are of the index.
	keys   func(*cluster.Index) []types.NamespacedName
	set    func(*cluster.Index, runtime.Object, *changes)
	remove func(*cluster.Index, types.NamespacedName, *changes)
}

const kindCount = 4

// kinds are all that is watched, with kube-proxy's selectors. The order is that
// in which they are taken in.
func kinds(c kubernetes.Interface, node string) [kindCount]kind {
	return [kindCount]kind{
		serviceCIDRs(c.NetworkingV1().RESTClient()),
		thisNode(c.CoreV1().RESTClient(), node),
		services(c.CoreV1().RESTClient()),
		endpointSlices(c.DiscoveryV1().RESTClient()),
	}
}

func services(c rest.Interface) kind {
	return kind{
		client: c, resource: "services",
		labels:  "!" + labelProxyName,
		fields:  "spec.clusterIP!=" + corev1.ClusterIPNone,
		object:  &corev1.Service{},
		newList: func() runtime.Object { return &corev1.ServiceList{} },
		strip:   func(o runtime.Object) { stripService(o.(*corev1.Service)) },
		keys:    (*cluster.Index).Services,
		set: func(x *cluster.Index, o runtime.Object, c *changes) {
			c.services = append(c.services, x.SetService(o.(*corev1.Service))...)
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *changes) {
			c.services = append(c.services, x.DeleteService(key)...)
		},
	}
}

func endpointSlices(c rest.Interface) kind {
	return kind{
		client: c, resource: "endpointslices",
		labels:  "!" + corev1.IsHeadlessService,
		object:  &discoveryv1.EndpointSlice{},
		newList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		strip:   func(o runtime.Object) { stripSlice(o.(*discoveryv1.EndpointSlice)) },
		keys:    (*cluster.Index).Slices,
		set: func(x *cluster.Index, o runtime.Object, c *changes) {
			c.services = append(c.services, x.SetSlice(o.(*discoveryv1.EndpointSlice))...)
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *changes) {
			c.services = append(c.services, x.DeleteSlice(key)...)
		},
	}
}

func thisNode(c rest.Interface, name string) kind {
	return kind{
		client: c, resource: "nodes",
		fields:  "metadata.name=" + name,
		object:  &corev1.Node{},
		newList: func() runtime.Object { return &corev1.NodeList{} },
		strip:   func(o runtime.Object) { stripNode(o.(*corev1.Node)) },
		keys:    func(x *cluster.Index) []types.NamespacedName { return unspaced(x.Nodes()) },
		set: func(x *cluster.Index, o runtime.Object, c *changes) {
			c.place = x.SetNode(o.(*corev1.Node)) || c.place
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
		newList:  func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		strip:    func(o runtime.Object) { stripServiceCIDR(o.(*networkingv1.ServiceCIDR)) },
		keys:     func(x *cluster.Index) []types.NamespacedName { return unspaced(x.ServiceCIDRs()) },
		set: func(x *cluster.Index, o runtime.Object, c *changes) {
			c.place = x.SetServiceCIDR(o.(*networkingv1.ServiceCIDR)) || c.place
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
