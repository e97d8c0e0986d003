// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// pods returns the endpoints of some pods.
func pods(names ...string) []rig.Endpoint {
	var list []rig.Endpoint
	for _, name := range names {
		list = append(list, endpoint(name))
	}
	return list
}

func endpoint(pod string) rig.Endpoint {
	for _, n := range topology().Nodes {
		for _, p := range n.Pods {
			if p.Name == pod {
				return rig.Endpoint{Node: n.Name, Addresses: p.Addresses}
			}
		}
	}
	panic("there is no pod " + pod)
}

// clusterIP returns a Service of both families with a port of each protocol. No two numbers are the same.
func clusterIP(n uint8, name string, endpoints ...rig.Endpoint) rig.Service {
	svc := rig.Service{
		Name:      name,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, n}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::1%02x", n))},
		Endpoints: endpoints,
	}
	for i, p := range protocols() {
		svc.Ports = append(svc.Ports, rig.Port{Protocol: p, Number: 80 + uint16(i), Target: podPort})
	}
	return svc
}

// nodePort adds node ports.
func nodePort(n uint8, svc rig.Service) rig.Service {
	ports := svc.Ports
	svc.Ports = nil
	for i, p := range ports {
		p.NodePort = 30000 + 1000*uint16(i) + uint16(n)
		svc.Ports = append(svc.Ports, p)
	}
	return svc
}

// loadBalancer adds node ports, load balancers' and external addresses.
func loadBalancer(n uint8, svc rig.Service) rig.Service {
	svc = nodePort(n, svc)
	svc.LoadBalancers = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, n}), netip.MustParseAddr(fmt.Sprintf("2001:db8:1b::%x", n))}
	svc.Externals = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, n}), netip.MustParseAddr(fmt.Sprintf("2001:db8:e::%x", n))}
	return svc
}

// put creates or updates Services.
func (s *stage) put(t *testing.T, services ...rig.Service) {
	t.Helper()
	for _, svc := range services {
		service, slices := svc.Objects()
		if len(svc.Addresses) > 1 {
			dual := corev1.IPFamilyPolicyRequireDualStack
			service.Spec.IPFamilyPolicy = &dual
		}
		s.putService(t, service)
		for _, slice := range slices {
			s.putSlice(t, slice)
		}
	}
}

func (s *stage) putService(t *testing.T, o *corev1.Service) {
	t.Helper()
	client := s.admin.CoreV1().Services(o.Namespace)
	made, err := client.Get(t.Context(), o.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		made, err = client.Create(t.Context(), o, metav1.CreateOptions{})
	case err == nil:
		o.ResourceVersion = made.ResourceVersion
		made, err = client.Update(t.Context(), o, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	made.Status = o.Status
	if _, err := client.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) putSlice(t *testing.T, o *discoveryv1.EndpointSlice) {
	t.Helper()
	client := s.admin.DiscoveryV1().EndpointSlices(o.Namespace)
	_, err := client.Create(t.Context(), o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = client.Update(t.Context(), o, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// remove deletes Services, and their endpoints as the controller would.
func (s *stage) remove(t *testing.T, services ...rig.Service) {
	t.Helper()
	for _, svc := range services {
		if err := s.admin.CoreV1().Services(rig.Namespace).Delete(t.Context(), svc.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		_, slices := svc.Objects()
		for _, o := range slices {
			if err := s.admin.DiscoveryV1().EndpointSlices(rig.Namespace).Delete(t.Context(), o.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// portOf returns a Service's port of a protocol.
func portOf(svc rig.Service, p state.Protocol) rig.Port {
	for _, port := range svc.Ports {
		if port.Protocol == p {
			return port
		}
	}
	panic(fmt.Sprintf("Service %s has no port for %v", svc.Name, p))
}
