// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// LabelProxyName is the label that gives a Service to another proxy, whatever its value.
	LabelProxyName = "service.kubernetes.io/service-proxy-name"
	// ourAnnotations is the prefix of this program's annotations.
	ourAnnotations = "kube-ipvs.io/"
)

func (f *form) service(s *corev1.Service) {
	f.key(&s.Namespace, &s.Name)
	f.uid(&s.UID)
	f.time(&s.CreationTimestamp)
	f.pairs(&s.Labels, func(name string) bool { return name == LabelProxyName })
	f.pairs(&s.Annotations, func(name string) bool { return strings.HasPrefix(name, ourAnnotations) })
	f.spec(&s.Spec)
	list(f, &s.Status.LoadBalancer.Ingress, func(in *corev1.LoadBalancerIngress) {
		f.address(&in.IP)
		maybe(f, &in.IPMode)
	})
}

func (f *form) key(namespace, name *string) {
	text(f, namespace)
	text(f, name)
}

func (f *form) spec(s *corev1.ServiceSpec) {
	word(f, &s.Type)
	f.address(&s.ClusterIP)
	list(f, &s.ClusterIPs, f.address)
	list(f, &s.IPFamilies, func(family *corev1.IPFamily) { word(f, family) })
	list(f, &s.Ports, func(p *corev1.ServicePort) {
		word(f, &p.Name)
		word(f, &p.Protocol)
		f.int32(&p.Port)
		f.int32(&p.NodePort)
	})
	list(f, &s.ExternalIPs, f.address)
	list(f, &s.LoadBalancerSourceRanges, func(r *string) { text(f, r) })
	word(f, &s.SessionAffinity)
	f.affinity(&s.SessionAffinityConfig)
	word(f, &s.ExternalTrafficPolicy)
	maybe(f, &s.InternalTrafficPolicy)
	f.int32(&s.HealthCheckNodePort)
}

// affinity is its one setting. Any level around that may be missing.
func (f *form) affinity(c **corev1.SessionAffinityConfig) {
	var seconds *int32
	if *c != nil && (*c).ClientIP != nil {
		seconds = (*c).ClientIP.TimeoutSeconds
	}
	if optional(f, &seconds, f.int32); !f.writing && seconds != nil {
		*c = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: seconds}}
	}
}

// time is in seconds, as in the API. It is zero for an object that no API server made.
func (f *form) time(t *metav1.Time) {
	var seconds int64
	if !t.IsZero() {
		seconds = t.Unix()
	}
	if f.integer(&seconds); !f.writing && seconds != 0 {
		*t = metav1.Unix(seconds, 0)
	}
}

// pairs are the labels or annotations that are read, sorted by name.
func (f *form) pairs(all *map[string]string, read func(string) bool) {
	var names []string
	if f.writing {
		names = slices.DeleteFunc(slices.Sorted(maps.Keys(*all)), func(name string) bool { return !read(name) })
	}
	values := map[string]string{}
	list(f, &names, func(name *string) {
		value := (*all)[*name]
		text(f, name)
		text(f, &value)
		values[*name] = value
	})
	if !f.writing && len(names) > 0 {
		*all = values
	}
}
