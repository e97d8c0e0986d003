// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
		integer(f, &p.Port)
		integer(f, &p.NodePort)
	})
	list(f, &s.ExternalIPs, f.address)
	list(f, &s.LoadBalancerSourceRanges, func(r *string) { text(f, r) })
	word(f, &s.SessionAffinity)
	f.affinity(&s.SessionAffinityConfig)
	word(f, &s.ExternalTrafficPolicy)
	maybe(f, &s.InternalTrafficPolicy)
	integer(f, &s.HealthCheckNodePort)
}

// affinity is its one setting. Any level around that may be missing.
func (f *form) affinity(c **corev1.SessionAffinityConfig) {
	var seconds *int32
	if *c != nil && (*c).ClientIP != nil {
		seconds = (*c).ClientIP.TimeoutSeconds
	}
	if optional(f, &seconds, func(i *int32) { integer(f, i) }); !f.writing && seconds != nil {
		*c = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: seconds}}
	}
}

// time is in seconds, as in the API. It is zero for an object that no API server made.
func (f *form) time(t *metav1.Time) {
	var seconds int64
	if !t.IsZero() {
		seconds = t.Unix()
	}
	if integer(f, &seconds); !f.writing && seconds != 0 {
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

func (f *form) slice(s *discoveryv1.EndpointSlice) {
	f.head(s)
	list(f, &s.Ports, func(p *discoveryv1.EndpointPort) {
		maybe(f, &p.Name)
		maybe(f, &p.Protocol)
		optional(f, &p.Port, func(i *int32) { integer(f, i) })
	})
	list(f, &s.Endpoints, f.endpoint)
}

// head holds the owner of the endpoints, and the type of their addresses.
func (f *form) head(s *discoveryv1.EndpointSlice) {
	owner := s.Labels[discoveryv1.LabelServiceName]
	_, headless := s.Labels[corev1.IsHeadlessService]
	f.names(&s.Namespace, &s.Name, &owner)
	f.flag(&headless)
	word(f, &s.AddressType)
	if f.writing || owner == "" && !headless {
		return
	}
	s.Labels = map[string]string{}
	if owner != "" {
		s.Labels[discoveryv1.LabelServiceName] = owner
	}
	if headless {
		s.Labels[corev1.IsHeadlessService] = ""
	}
}

// names are those of the Service and of the EndpointSlice, which usually begins with the former.
func (f *form) names(namespace, own, owner *string) {
	f.key(namespace, owner)
	f.ending(own, *owner)
}

func (f *form) endpoint(e *discoveryv1.Endpoint) {
	f.conditions(&e.Conditions)
	list(f, &e.Addresses, f.address)
	maybe(f, &e.NodeName)
	maybe(f, &e.Zone)
	f.hints(&e.Hints)
}

// conditions are one number, with two bits for each: 0 for none, 1 for false and 2 for true.
func (f *form) conditions(c *discoveryv1.EndpointConditions) {
	all := []**bool{&c.Ready, &c.Serving, &c.Terminating}
	var said uint64
	for i, one := range all {
		switch {
		case *one == nil:
		case **one:
			said |= 2 << (2 * i)
		default:
			said |= 1 << (2 * i)
		}
	}
	f.number(&said)
	if f.writing {
		return
	}
	for i, one := range all {
		if bits := said >> (2 * i) & 3; bits != 0 {
			*one = new(bits == 2)
		}
	}
}

// hints without any zone or node are the same as none.
func (f *form) hints(h **discoveryv1.EndpointHints) {
	given := *h
	if given != nil && len(given.ForZones)+len(given.ForNodes) == 0 {
		given = nil
	}
	optional(f, &given, func(h *discoveryv1.EndpointHints) {
		list(f, &h.ForZones, func(z *discoveryv1.ForZone) { word(f, &z.Name) })
		list(f, &h.ForNodes, func(n *discoveryv1.ForNode) { word(f, &n.Name) })
	})
	if !f.writing {
		*h = given
	}
}
