// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// sameNode compares what is read: a kubelet changes its Node every few seconds, controllers label and taint
// it, and each change that counts may concern all Services.
func sameNode(a, b *corev1.Node) bool {
	return a == b || a.Labels[corev1.LabelTopologyZone] == b.Labels[corev1.LabelTopologyZone] &&
		slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) &&
		slices.Equal(a.Status.Addresses, b.Status.Addresses) && Leaving(a) == Leaving(b)
}

// taintLeaving is put on a Node that is about to be removed.
const taintLeaving = "ToBeDeletedByClusterAutoscaler"

// Leaving says whether load balancers should send nothing new to the Node.
func Leaving(n *corev1.Node) bool {
	return n.DeletionTimestamp != nil ||
		slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintLeaving })
}
