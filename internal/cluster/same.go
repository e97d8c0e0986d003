// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Two objects are the same if they differ only in what nobody reads. What is
// not read of Services and EndpointSlices is cleared here rather than what is read listed: a field that a
// later Kubernetes adds then counts until somebody decides otherwise.

func sameService(a, b *corev1.Service) bool {
	return a == b || sameMeta(&a.ObjectMeta, &b.ObjectMeta) &&
		equality.Semantic.DeepEqual(readOfService(a.Spec), readOfService(b.Spec)) &&
		equality.Semantic.DeepEqual(a.Status.LoadBalancer, b.Status.LoadBalancer)
}

// SameSlice says whether a and b differ only in what nobody reads.
func SameSlice(a, b *discoveryv1.EndpointSlice) bool {
	return a == b || sameMeta(&a.ObjectMeta, &b.ObjectMeta) && a.AddressType == b.AddressType &&
		equality.Semantic.DeepEqual(a.Ports, b.Ports) &&
		equality.Semantic.DeepEqual(a.Endpoints, b.Endpoints)
}

// sameNode lists what is read, other than the rest: a kubelet changes its Node
// every few seconds, controllers label and taint it, and each change that
// counts may concern all Services.
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

func readOfService(s corev1.ServiceSpec) corev1.ServiceSpec {
	s.Selector = nil
	s.ExternalName = ""
	s.IPFamilyPolicy = nil
	s.LoadBalancerIP = ""
	s.LoadBalancerClass = nil
	s.AllocateLoadBalancerNodePorts = nil
	s.PublishNotReadyAddresses = false
	s.TrafficDistribution = nil
	s.Ports = slices.Clone(s.Ports)
	for i := range s.Ports {
		s.Ports[i].AppProtocol = nil
		s.Ports[i].TargetPort = intstr.IntOrString{}
	}
	return s
}

// sameMeta compares the UID and the creation time too: the older of two
// Services that claim one address wins, and events are about a UID.
func sameMeta(a, b *metav1.ObjectMeta) bool {
	return a.Name == b.Name && a.Namespace == b.Namespace && a.UID == b.UID &&
		a.CreationTimestamp.Equal(&b.CreationTimestamp) && a.DeletionTimestamp.Equal(b.DeletionTimestamp) &&
		maps.Equal(a.Labels, b.Labels) && sameAnnotations(a.Annotations, b.Annotations)
}

// sameAnnotations leaves out those that others write with every change they
// make or measure.
func sameAnnotations(a, b map[string]string) bool {
	return annotationsIn(a, b) && annotationsIn(b, a)
}

func annotationsIn(a, b map[string]string) bool {
	for key, value := range a {
		if key == corev1.LastAppliedConfigAnnotation || key == corev1.EndpointsLastChangeTriggerTime {
			continue
		}
		if other, ok := b[key]; !ok || other != value {
			return false
		}
	}
	return true
}
