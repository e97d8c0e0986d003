// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Index holds Services with their EndpointSlices, Nodes, and ServiceCIDRs. Each change
// returns the keys of the Services whose objects are now different in
// something that is used; a Service that has EndpointSlices only does not
// count. Objects are kept, not copied. An Index is used by one goroutine.
type Index struct {
	services map[types.NamespacedName]*parts
	slices   map[types.NamespacedName]*discoveryv1.EndpointSlice
	nodes    map[string]*corev1.Node
	cidrs    map[string][]netip.Prefix // of each ServiceCIDR
}

// parts is what one Service consists of. The service is nil as long as only
// EndpointSlices are known: the two come in any order.
type parts struct {
	service *corev1.Service
	slices  map[string]*discoveryv1.EndpointSlice
}

// NewIndex returns an Index that holds nothing.
func NewIndex() *Index {
	return &Index{
		services: map[types.NamespacedName]*parts{},
		slices:   map[types.NamespacedName]*discoveryv1.EndpointSlice{},
		nodes:    map[string]*corev1.Node{},
		cidrs:    map[string][]netip.Prefix{},
	}
}

// SetService adds or replaces a Service.
func (x *Index) SetService(s *corev1.Service) []types.NamespacedName {
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	p := x.parts(key)
	old := p.service
	p.service = s
	if old != nil && sameService(old, s) {
		return nil
	}
	return []types.NamespacedName{key}
}

// DeleteService removes a Service. Its EndpointSlices stay.
func (x *Index) DeleteService(key types.NamespacedName) []types.NamespacedName {
	p := x.services[key]
	if p == nil || p.service == nil {
		return nil
	}
	p.service = nil
	x.forget(key)
	return []types.NamespacedName{key}
}

// SetSlice adds or replaces an EndpointSlice. Two Services change when it
// moved from one to the other.
func (x *Index) SetSlice(s *discoveryv1.EndpointSlice) []types.NamespacedName {
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	old := x.slices[key]
	x.slices[key] = s
	var changed []types.NamespacedName
	if old != nil && serviceOf(old) != serviceOf(s) {
		changed = x.detach(old)
	}
	if owner := serviceOf(s); owner.Name != "" {
		x.parts(owner).slices[s.Name] = s
	}
	if old != nil && SameSlice(old, s) {
		return nil
	}
	return append(changed, x.present(serviceOf(s))...)
}

// DeleteSlice removes an EndpointSlice.
func (x *Index) DeleteSlice(key types.NamespacedName) []types.NamespacedName {
	old := x.slices[key]
	if old == nil {
		return nil
	}
	delete(x.slices, key)
	return x.detach(old)
}

// SetNode adds or replaces a Node and says whether it is now different in
// something that is used.
func (x *Index) SetNode(n *corev1.Node) bool {
	old := x.nodes[n.Name]
	x.nodes[n.Name] = n
	return old == nil || !sameNode(old, n)
}

// DeleteNode removes a Node and says whether it was there.
func (x *Index) DeleteNode(name string) bool {
	_, ok := x.nodes[name]
	delete(x.nodes, name)
	return ok
}

// Has says whether there is a Service.
func (x *Index) Has(key types.NamespacedName) bool {
	p := x.services[key]
	return p != nil && p.service != nil
}

// Objects returns a Service and its EndpointSlices, sorted by name; nil and
// none if there is no such Service.
func (x *Index) Objects(key types.NamespacedName) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	p := x.services[key]
	if p == nil || p.service == nil {
		return nil, nil
	}
	byName := func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }
	return p.service, slices.SortedFunc(maps.Values(p.slices), byName)
}

// SetServiceCIDR adds or replaces what a ServiceCIDR says, and says whether it
// is now different. What is no network is left out.
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

// DeleteServiceCIDR removes a ServiceCIDR and says whether it was there.
func (x *Index) DeleteServiceCIDR(name string) bool {
	_, ok := x.cidrs[name]
	delete(x.cidrs, name)
	return ok
}

// Place returns what is around the Services for the Node of this name.
func (x *Index) Place(node string) Place {
	p := Place{Node: x.nodes[node]}
	for name, n := range x.nodes {
		if name != node {
			p.Others = append(p.Others, n)
		}
	}
	slices.SortFunc(p.Others, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	for _, list := range x.cidrs {
		p.ServiceCIDRs = append(p.ServiceCIDRs, list...)
	}
	slices.SortFunc(p.ServiceCIDRs, netip.Prefix.Compare)
	p.ServiceCIDRs = slices.Compact(p.ServiceCIDRs)
	return p
}

// Services returns the keys of all Services, sorted.
func (x *Index) Services() []types.NamespacedName {
	var keys []types.NamespacedName
	for key, p := range x.services {
		if p.service != nil {
			keys = append(keys, key)
		}
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

// serviceOf is the Service that s belongs to; without a name if to none.
func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

func (x *Index) parts(key types.NamespacedName) *parts {
	p := x.services[key]
	if p == nil {
		p = &parts{slices: map[string]*discoveryv1.EndpointSlice{}}
		x.services[key] = p
	}
	return p
}

// detach takes s away from its Service.
func (x *Index) detach(s *discoveryv1.EndpointSlice) []types.NamespacedName {
	owner := serviceOf(s)
	if owner.Name == "" {
		return nil
	}
	delete(x.parts(owner).slices, s.Name)
	x.forget(owner)
	return x.present(owner)
}

// present is key if there is such a Service.
func (x *Index) present(key types.NamespacedName) []types.NamespacedName {
	if x.Has(key) {
		return []types.NamespacedName{key}
	}
	return nil
}

func (x *Index) forget(key types.NamespacedName) {
	if p := x.services[key]; p.service == nil && len(p.slices) == 0 {
		delete(x.services, key)
	}
}
