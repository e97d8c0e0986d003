// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Only fields listed here are kept. Objects come fresh from the decoder and are stripped in place.

// stripSlice drops the names of other nodes. Package cluster drops the other fields that are not read.
func stripSlice(s *discoveryv1.EndpointSlice, node string) *discoveryv1.EndpointSlice {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.NodeName != nil && *e.NodeName != node {
			e.NodeName = nil
		}
		if e.Hints != nil {
			e.Hints.ForNodes = hintsFor(e.Hints.ForNodes, node)
		}
	}
	return s
}

// hintsFor returns one hint in place of many: for this node, or for another one.
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

func stripNode(n *corev1.Node) *corev1.Node {
	zone, zoned := n.Labels[corev1.LabelTopologyZone]
	*n = corev1.Node{
		ObjectMeta: stripMeta(&n.ObjectMeta),
		Spec: corev1.NodeSpec{
			PodCIDRs: n.Spec.PodCIDRs,
			Taints:   slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key != cluster.TaintLeaving }),
		},
		Status: corev1.NodeStatus{Addresses: n.Status.Addresses},
	}
	if zoned {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return n
}

func stripServiceCIDR(c *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDR {
	*c = networkingv1.ServiceCIDR{
		ObjectMeta: stripMeta(&c.ObjectMeta),
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: c.Spec.CIDRs},
	}
	return c
}

// stripMeta keeps the identity and version of an object, and when it came and goes.
func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              m.Name,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
	}
}
