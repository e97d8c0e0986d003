// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Index holds Services with their EndpointSlices, Nodes and ServiceCIDRs. A change returns the keys of the Services of
// which something that is used changed. Nodes are kept, not copied. One goroutine uses an Index.
type Index struct {
	services map[types.NamespacedName]*Objects // without a Service while only EndpointSlices are known
	slices   map[types.NamespacedName]Slice
	nodes    map[string]*corev1.Node
	cidrs    map[string][]netip.Prefix // of each ServiceCIDR
}

// NewIndex returns an empty Index.
func NewIndex() *Index {
	return &Index{
		services: map[types.NamespacedName]*Objects{},
		slices:   map[types.NamespacedName]Slice{},
		nodes:    map[string]*corev1.Node{},
		cidrs:    map[string][]netip.Prefix{},
	}
}

// SetService adds or replaces a Service.
func (x *Index) SetService(s Service) []types.NamespacedName {
	key := s.Key()
	fresh := Objects{Service: s}
	if old := x.services[key]; old != nil {
		if old.Service == s {
			return nil
		}
		fresh.Slices = old.Slices
	}
	x.services[key] = &fresh
	return []types.NamespacedName{key}
}

// DeleteService removes a Service. Its EndpointSlices stay.
func (x *Index) DeleteService(key types.NamespacedName) []types.NamespacedName {
	if !x.Has(key) {
		return nil
	}
	x.keep(key, &Objects{Slices: x.services[key].Slices})
	return []types.NamespacedName{key}
}

// SetSlice adds or replaces an EndpointSlice. If it moved to another Service, both change.
func (x *Index) SetSlice(s Slice) []types.NamespacedName {
	key, owner := s.Names()
	old := x.slices[key]
	if old.Same(s) {
		return nil
	}
	x.slices[key] = s
	var changed []types.NamespacedName
	if _, was := old.Names(); was != owner {
		changed = x.detach(old)
	}
	if owner.Name == "" {
		return changed
	}
	x.keep(owner, x.services[owner].With(s))
	return append(changed, x.present(owner)...)
}

// DeleteSlice removes an EndpointSlice.
func (x *Index) DeleteSlice(key types.NamespacedName) []types.NamespacedName {
	old := x.slices[key]
	delete(x.slices, key)
	return x.detach(old)
}

// SetNode adds or replaces a Node and reports whether something that is used changed.
func (x *Index) SetNode(n *corev1.Node) bool {
	old := x.nodes[n.Name]
	x.nodes[n.Name] = n
	return old == nil || !sameNode(old, n)
}

// DeleteNode removes a Node and reports whether it was there.
func (x *Index) DeleteNode(name string) bool { return remove(x.nodes, name) }

func remove[V any](from map[string]V, name string) bool {
	_, ok := from[name]
	delete(from, name)
	return ok
}

// Has reports whether there is a Service.
func (x *Index) Has(key types.NamespacedName) bool { return x.Objects(key) != nil }

// Objects returns the objects of a Service; nil if there is no such Service.
func (x *Index) Objects(key types.NamespacedName) *Objects {
	if o := x.services[key]; o != nil && !o.Service.IsZero() {
		return o
	}
	return nil
}

// SetServiceCIDR adds or replaces a ServiceCIDR and reports whether its valid networks changed.
func (x *Index) SetServiceCIDR(c *networkingv1.ServiceCIDR) bool {
	var list []netip.Prefix
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p.Masked())
		}
	}
	old, there := x.cidrs[c.Name]
	x.cidrs[c.Name] = list
	return !there || !slices.Equal(old, list)
}

// DeleteServiceCIDR removes a ServiceCIDR and reports whether it was there.
func (x *Index) DeleteServiceCIDR(name string) bool { return remove(x.cidrs, name) }

// Place returns the Place of the named Node.
func (x *Index) Place(node string) Place {
	p := Place{Node: x.nodes[node]}
	for name, n := range x.nodes {
		if name != node {
			p.Others = append(p.Others, n)
		}
	}
	slices.SortFunc(p.Others, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	p.ServiceCIDRs = slices.Concat(slices.Collect(maps.Values(x.cidrs))...)
	slices.SortFunc(p.ServiceCIDRs, netip.Prefix.Compare)
	p.ServiceCIDRs = slices.Compact(p.ServiceCIDRs)
	return p
}

// Services returns the keys of all Services, sorted.
func (x *Index) Services() []types.NamespacedName {
	var keys []types.NamespacedName
	for key := range x.services {
		keys = append(keys, x.present(key)...)
	}
	slices.SortFunc(keys, CompareKeys)
	return keys
}

// Slices returns the keys of all EndpointSlices, in no order.
func (x *Index) Slices() []types.NamespacedName { return slices.Collect(maps.Keys(x.slices)) }

// Nodes returns the names of all Nodes, in no order.
func (x *Index) Nodes() []string { return slices.Collect(maps.Keys(x.nodes)) }

// ServiceCIDRs returns the names of all ServiceCIDRs, in no order.
func (x *Index) ServiceCIDRs() []string { return slices.Collect(maps.Keys(x.cidrs)) }

// CompareKeys orders by namespace, then name.
func CompareKeys(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func (x *Index) detach(s Slice) []types.NamespacedName {
	own, owner := s.Names()
	if owner.Name == "" {
		return nil
	}
	x.keep(owner, x.services[owner].without(own.Name))
	return x.present(owner)
}

// present returns key if there is such a Service.
func (x *Index) present(key types.NamespacedName) []types.NamespacedName {
	if x.Has(key) {
		return []types.NamespacedName{key}
	}
	return nil
}

func (x *Index) keep(key types.NamespacedName, o *Objects) {
	x.services[key] = o
	if o.Service.IsZero() && len(o.Slices) == 0 {
		delete(x.services, key)
	}
}

// sameNode compares what is used: a kubelet changes its Node every few seconds.
func sameNode(a, b *corev1.Node) bool {
	return a == b || a.Labels[corev1.LabelTopologyZone] == b.Labels[corev1.LabelTopologyZone] &&
		slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) &&
		slices.Equal(a.Status.Addresses, b.Status.Addresses) && Leaving(a) == Leaving(b)
}

// TaintLeaving is on a Node that is about to be removed.
const TaintLeaving = "ToBeDeletedByClusterAutoscaler"

// Leaving reports whether load balancers should send no new connections to the Node.
func Leaving(n *corev1.Node) bool {
	return n.DeletionTimestamp != nil ||
		slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == TaintLeaving })
}
