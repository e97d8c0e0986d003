// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// dice draws valid objects that collide in addresses, ports, node ports and endpoints.
type dice struct{ *rand.Rand }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

func serviceName(n int) string { return fmt.Sprintf("web-%02d", n) }

func (d dice) objects(n int) plan.Objects {
	ports := pick(d,
		[]corev1.ServicePort{{Name: "a", Protocol: "TCP", Port: 80}},
		[]corev1.ServicePort{{Name: "a", Protocol: "UDP", Port: 53}, {Name: "b", Protocol: "TCP", Port: 53}},
		[]corev1.ServicePort{{Name: "a", Protocol: "SCTP", Port: 80}, {Name: "b", Protocol: "TCP", Port: 443}, {Name: "c", Protocol: "UDP", Port: 80}},
	)
	return plan.Objects{
		Service: d.service(n, ports),
		Slices: []*discoveryv1.EndpointSlice{
			d.slice(n, "IPv4", ports), d.slice(n, "IPv6", ports), d.slice(n, pick[discoveryv1.AddressType](d, "IPv4", "IPv6"), ports),
		}[:d.IntN(4)],
	}
}

func (d dice) service(n int, ports []corev1.ServicePort) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: serviceName(n)}}
	s.Spec.Type = corev1.ServiceTypeClusterIP
	v4, v6 := fmt.Sprintf("10.96.0.%d", 1+n%15), fmt.Sprintf("fd00:96::%x", 1+n%15)
	switch d.IntN(3) {
	case 0:
		s.Spec.ClusterIPs, s.Spec.IPFamilies = []string{v4}, []corev1.IPFamily{"IPv4"}
	case 1:
		s.Spec.ClusterIPs, s.Spec.IPFamilies = []string{v6}, []corev1.IPFamily{"IPv6"}
	case 2:
		s.Spec.ClusterIPs, s.Spec.IPFamilies = []string{v4, v6}, []corev1.IPFamily{"IPv4", "IPv6"}
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	s.Spec.SessionAffinity = pick[corev1.ServiceAffinity](d, "None", "None", "ClientIP")
	s.Spec.Ports = append(s.Spec.Ports, ports...)
	if d.IntN(3) == 0 {
		s.Spec.Type = corev1.ServiceTypeNodePort
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 30_000 + d.Int32N(40)
		}
	}
	return s
}

func (d dice) slice(n int, family discoveryv1.AddressType, ports []corev1.ServicePort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: fmt.Sprint(serviceName(n), "-", family),
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(n)},
		},
		AddressType: family,
	}
	for _, p := range ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: new(8000 + p.Port)})
	}
	for range d.IntN(5) {
		address := fmt.Sprintf("10.244.0.%d", 1+d.IntN(8))
		if family == discoveryv1.AddressTypeIPv6 {
			address = fmt.Sprintf("fd00:244::%x", 1+d.IntN(8))
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{address},
			NodeName:  new(pick(d, "n1", "n2")),
			Conditions: discoveryv1.EndpointConditions{
				Ready: new(d.IntN(4) > 0), Serving: new(d.IntN(4) > 0), Terminating: new(d.IntN(4) == 0),
			},
		})
	}
	return s
}
