// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is kept is written down here, not what is dropped: most of an object is
// not read, and what a later Kubernetes adds is none of what this program
// knows. Objects are stripped in place: they come fresh from the decoder.

const (
	// labelProxyName gives a Service to another proxy, whatever its value.
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	// ourAnnotations is how the names of annotations for this program begin.
	ourAnnotations = "kube-ipvs.io/"
	// taintLeaving is put on a Node that is about to be removed.
	taintLeaving = "ToBeDeletedByClusterAutoscaler"
)

func stripService(s *corev1.Service) {
	spec := s.Spec
	ports := make([]corev1.ServicePort, len(spec.Ports))
	for i, p := range spec.Ports {
		ports[i] = corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort}
	}
	*s = corev1.Service{
		ObjectMeta: stripMeta(&s.ObjectMeta, labelProxyName),
		Spec: corev1.ServiceSpec{
			Type:                     spec.Type,
			ClusterIP:                spec.ClusterIP,
			ClusterIPs:               spec.ClusterIPs,
			IPFamilies:               spec.IPFamilies,
			Ports:                    ports,
			ExternalIPs:              spec.ExternalIPs,
			LoadBalancerSourceRanges: spec.LoadBalancerSourceRanges,
			SessionAffinity:          spec.SessionAffinity,
			SessionAffinityConfig:    spec.SessionAffinityConfig,
			ExternalTrafficPolicy:    spec.ExternalTrafficPolicy,
			InternalTrafficPolicy:    spec.InternalTrafficPolicy,
			HealthCheckNodePort:      spec.HealthCheckNodePort,
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: ingress(s.Status.LoadBalancer.Ingress)}},
	}
}

func ingress(all []corev1.LoadBalancerIngress) []corev1.LoadBalancerIngress {
	var kept []corev1.LoadBalancerIngress
	for _, in := range all {
		kept = append(kept, corev1.LoadBalancerIngress{IP: in.IP, IPMode: in.IPMode})
	}
	return kept
}

func stripSlice(s *discoveryv1.EndpointSlice) {
	for i, p := range s.Ports {
		s.Ports[i] = discoveryv1.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port}
	}
	for i, e := range s.Endpoints {
		s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName, Zone: e.Zone, Hints: e.Hints}
	}
	*s = discoveryv1.EndpointSlice{
		ObjectMeta:  stripMeta(&s.ObjectMeta, discoveryv1.LabelServiceName, corev1.IsHeadlessService),
		AddressType: s.AddressType,
		Ports:       s.Ports,
		Endpoints:   s.Endpoints,
	}
}

func stripNode(n *corev1.Node) {
	*n = corev1.Node{
		ObjectMeta: stripMeta(&n.ObjectMeta, corev1.LabelTopologyZone),
		Spec: corev1.NodeSpec{
			PodCIDRs: n.Spec.PodCIDRs,
			Taints:   slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key != taintLeaving }),
		},
		Status: corev1.NodeStatus{Addresses: n.Status.Addresses},
	}
}

func stripServiceCIDR(c *networkingv1.ServiceCIDR) {
	*c = networkingv1.ServiceCIDR{
		ObjectMeta: stripMeta(&c.ObjectMeta),
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: c.Spec.CIDRs},
	}
}

// stripMeta keeps what names an object and its version, when it came and when
// it goes, and the annotations and labels that mean something.
func stripMeta(m *metav1.ObjectMeta, labels ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:         m.Namespace,
		Name:              m.Name,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            only(m.Labels, func(key string) bool { return slices.Contains(labels, key) }),
		Annotations:       only(m.Annotations, isRead),
	}
}

// isRead says whether an annotation means something. The time of the change is
// for the metric of how long programming takes.
func isRead(annotation string) bool {
	return annotation == corev1.EndpointsLastChangeTriggerTime || strings.HasPrefix(annotation, ourAnnotations)
}

func only(m map[string]string, keep func(string) bool) map[string]string {
	var kept map[string]string
	for key, value := range m {
		if keep(key) {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
		}
	}
	return kept
}
