// SPDX-License-Identifier: Apache-2.0

package file

import (
	"cmp"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// As the API server does, fill in fields that are read. What it would allocate (node ports) stays empty.

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	spec.Type = cmp.Or(spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		spec.Ports[i].Protocol = cmp.Or(spec.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	defaultAddresses(spec)
	defaultAffinity(spec)
	defaultPolicies(spec)
	for i := range s.Status.LoadBalancer.Ingress {
		if ingress := &s.Status.LoadBalancer.Ingress[i]; ingress.IP != "" {
			fill(&ingress.IPMode, corev1.LoadBalancerIPModeVIP)
		}
	}
}

// defaultAddresses fills in clusterIP from clusterIPs or the reverse, and the families from the addresses.
func defaultAddresses(spec *corev1.ServiceSpec) {
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		spec.ClusterIP = spec.ClusterIPs[0]
	case spec.ClusterIP != "" && len(spec.ClusterIPs) == 0:
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if len(spec.IPFamilies) > 0 {
		return
	}
	for _, text := range spec.ClusterIPs {
		address, err := netip.ParseAddr(text)
		if err != nil {
			spec.IPFamilies = nil // "None", or nothing that can be guessed
			return
		}
		family := corev1.IPv4Protocol
		if address.Is6() {
			family = corev1.IPv6Protocol
		}
		spec.IPFamilies = append(spec.IPFamilies, family)
	}
}

func defaultAffinity(spec *corev1.ServiceSpec) {
	spec.SessionAffinity = cmp.Or(spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		fill(&spec.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		fill(&spec.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		fill(&spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	}
}

func defaultPolicies(spec *corev1.ServiceSpec) {
	reached := spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer ||
		spec.Type == corev1.ServiceTypeClusterIP && len(spec.ExternalIPs) > 0
	if reached {
		spec.ExternalTrafficPolicy = cmp.Or(spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type != corev1.ServiceTypeExternalName {
		fill(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
}

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		fill(&s.Ports[i].Name, "")
		fill(&s.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}

func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
