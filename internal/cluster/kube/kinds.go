// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// kind is a kind of objects: where to get them, which ones, and what to do with them.
type kind struct {
	client         rest.Interface
	resource       string
	labels, fields string // selectors: the API server omits the rest

	// optional: if the API server does not know the kind, or refuses it, there are no objects.
	optional bool

	object runtime.Object           // an empty one
	keep   func(runtime.Object) any // returns what is kept of an object

	// keys, set and remove access the index.
	keys   func(*cluster.Index) []types.NamespacedName
	set    func(x *cluster.Index, kept any, c *cluster.Changes)
	remove func(*cluster.Index, types.NamespacedName, *cluster.Changes)
}

const kindCount = 4

// kinds returns all that are watched, with kube-proxy's selectors, in the order in which they are applied.
func kinds(c *Client, node string) [kindCount]kind {
	return [kindCount]kind{{
		client: c.Networking, resource: "servicecidrs", optional: true,
		object: &networkingv1.ServiceCIDR{},
		keep:   func(o runtime.Object) any { return stripServiceCIDR(o.(*networkingv1.ServiceCIDR)) },
		keys:   func(x *cluster.Index) []types.NamespacedName { return unspaced(x.ServiceCIDRs()) },
		set: func(x *cluster.Index, kept any, c *cluster.Changes) {
			c.AddPlace(x.SetServiceCIDR(kept.(*networkingv1.ServiceCIDR)))
		},
		remove: func(x *cluster.Index, key types.NamespacedName, c *cluster.Changes) {
			c.AddPlace(x.DeleteServiceCIDR(key.Name))
		},
	}, {
		client: c.Core, resource: "nodes", fields: "metadata.name=" + node,
		object: &corev1.Node{},
		keep:   func(o runtime.Object) any { return stripNode(o.(*corev1.Node)) },
		keys:   func(x *cluster.Index) []types.NamespacedName { return unspaced(x.Nodes()) },
		set:    func(x *cluster.Index, kept any, c *cluster.Changes) { c.AddPlace(x.SetNode(kept.(*corev1.Node))) },
		remove: func(x *cluster.Index, key types.NamespacedName, c *cluster.Changes) {
			c.AddPlace(x.DeleteNode(key.Name))
		},
	}, {
		client: c.Core, resource: "services",
		labels: "!" + cluster.LabelProxyName, fields: "spec.clusterIP!=" + corev1.ClusterIPNone,
		object: &corev1.Service{},
		keep:   func(o runtime.Object) any { return cluster.OfService(o.(*corev1.Service)) },
		keys:   (*cluster.Index).Services,
		set:    func(x *cluster.Index, kept any, c *cluster.Changes) { c.Add(x.SetService(kept.(cluster.Service))) },
		remove: func(x *cluster.Index, key types.NamespacedName, c *cluster.Changes) { c.Add(x.DeleteService(key)) },
	}, {
		client: c.Discovery, resource: "endpointslices", labels: "!" + corev1.IsHeadlessService,
		object: &discoveryv1.EndpointSlice{},
		keep:   func(o runtime.Object) any { return cluster.OfSlice(stripSlice(o.(*discoveryv1.EndpointSlice), node)) },
		keys:   (*cluster.Index).Slices,
		set:    func(x *cluster.Index, kept any, c *cluster.Changes) { c.Add(x.SetSlice(kept.(cluster.Slice))) },
		remove: func(x *cluster.Index, key types.NamespacedName, c *cluster.Changes) { c.Add(x.DeleteSlice(key)) },
	}}
}

// unspaced returns keys without a namespace.
func unspaced(names []string) []types.NamespacedName {
	var keys []types.NamespacedName
	for _, name := range names {
		keys = append(keys, types.NamespacedName{Name: name})
	}
	return keys
}

// inbox holds what came and was not taken yet: each object once, however often it changed.
type inbox struct {
	wake chan struct{} // has an element if there may be something

	mutex   sync.Mutex
	waiting [kindCount]batch
}

// batch is what came of one kind.
type batch struct {
	whole   bool                         // objects that are not in it are gone
	objects map[types.NamespacedName]any // as they are kept; nil: removed
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put takes in an object; nil: it is gone.
func (x *inbox) put(kind int, key types.NamespacedName, o any) {
	x.mutex.Lock()
	b := &x.waiting[kind]
	if b.objects == nil {
		b.objects = map[types.NamespacedName]any{}
	}
	b.objects[key] = o
	x.mutex.Unlock()
	x.ring()
}

func (x *inbox) replace(kind int, all map[types.NamespacedName]any) {
	x.mutex.Lock()
	x.waiting[kind] = batch{whole: true, objects: all}
	x.mutex.Unlock()
	x.ring()
}

func (x *inbox) ring() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *inbox) take() [kindCount]batch {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	taken := x.waiting
	x.waiting = [kindCount]batch{}
	return taken
}

// apply updates index and notes in c what changed.
func (b batch) apply(k kind, index *cluster.Index, c *cluster.Changes) {
	if b.whole {
		for _, key := range k.keys(index) {
			if b.objects[key] == nil {
				k.remove(index, key, c)
			}
		}
	}
	for key, o := range b.objects {
		if o == nil {
			k.remove(index, key, c)
		} else {
			k.set(index, o, c)
		}
	}
}
