// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is kept is written down here, not what is dropped: most of an object is not read, and what a later
// Kubernetes adds is none of what this program knows. Objects are stripped in place: they come fresh from the
// decoder.

const (
	// labelProxyName gives a Service to another proxy, whatever its value.
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	// taintLeaving is put on a Node that is about to be removed.
	taintLeaving = "ToBeDeletedByClusterAutoscaler"
)

// stripSlice leaves of the names of nodes that of this one, by which endpoints are known to be here. The rest
// of what is read of a slice, as of a Service, is known to package packed.
func stripSlice(s *discoveryv1.EndpointSlice, node string) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.NodeName != nil && *e.NodeName != node {
			e.NodeName = nil
		}
		if e.Hints != nil {
			e.Hints.ForNodes = hintsFor(e.Hints.ForNodes, node)
		}
	}
}

// hintsFor is one hint in place of many: for this node, or for no node of this name.
func hintsFor(all []discoveryv1.ForNode, node string) []discoveryv1.ForNode {
	us := discoveryv1.ForNode{Name: node}
	switch {
	case len(all) == 0:
		return nil
	case slices.Contains(all, us):
		return []discoveryv1.ForNode{us}
	}
	return []discoveryv1.ForNode{{}}
}

func stripNode(n *corev1.Node) {
	zone, zoned := n.Labels[corev1.LabelTopologyZone]
	*n = corev1.Node{
		ObjectMeta: stripMeta(&n.ObjectMeta),
		Spec: corev1.NodeSpec{
			PodCIDRs: n.Spec.PodCIDRs,
			Taints:   slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key != taintLeaving }),
		},
		Status: corev1.NodeStatus{Addresses: n.Status.Addresses},
	}
	if zoned {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
}

func stripServiceCIDR(c *networkingv1.ServiceCIDR) {
	*c = networkingv1.ServiceCIDR{
		ObjectMeta: stripMeta(&c.ObjectMeta),
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: c.Spec.CIDRs},
	}
}

// stripMeta keeps what names an object and its version, and when it came and when it goes.
func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              m.Name,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
	}
}
