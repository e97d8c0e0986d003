// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Namespace is the namespace of all Services of a rig.
const Namespace = "rig"

// Service is a Service with its endpoints, in a test's terms.
type Service struct {
	Name string
	// Addresses are its cluster IPs, at most one of a family.
	Addresses []netip.Addr
	// LoadBalancers and Externals are its addresses for clients from outside.
	LoadBalancers, Externals []netip.Addr
	Ports                    []Port
	// InternalLocal is traffic policy Local at the cluster IPs, ExternalLocal everywhere else.
	InternalLocal, ExternalLocal bool
	// SourceRanges are the clients of the load balancers; none means all clients.
	SourceRanges []string
	// HealthPort is where a load balancer asks whether the node has endpoints, if ExternalLocal.
	HealthPort  uint16
	Annotations map[string]string
	// Sticky is session affinity by the client's address.
	Sticky bool
	// StickyFor is its time in seconds; 0 means the default.
	StickyFor int32
	Endpoints []Endpoint
}

// Port is a port of a Service. Its endpoints serve at Target.
type Port struct {
	Protocol         state.Protocol
	Number, NodePort uint16
	Target           uint16
}

// Endpoint is a pod that serves.
type Endpoint struct {
	Node        string
	Addresses   []netip.Addr
	Terminating bool
	// Unready is a pod that gets no traffic and could not serve it.
	Unready bool
}

// Pod returns the endpoint of a pod of the small world.
func Pod(name string) Endpoint {
	for _, n := range world.Small().Nodes {
		for _, p := range n.Pods {
			if p.Name == name {
				return Endpoint{Node: n.Name, Addresses: p.Addresses}
			}
		}
	}
	panic("the small world has no pod " + name)
}

// Pods returns the endpoints of some pods.
func Pods(names ...string) []Endpoint {
	var list []Endpoint
	for _, n := range names {
		list = append(list, Pod(n))
	}
	return list
}

// Address returns the cluster IP of a family.
func (s Service) Address(f state.Family) netip.Addr { return First(f, s.Addresses) }

// First returns the first address of a family, and the zero Addr if there is none.
func First(f state.Family, list []netip.Addr) netip.Addr {
	for _, a := range list {
		if state.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// Objects returns the Service's API objects: itself, and a slice for each family.
func (s Service) Objects() (*corev1.Service, []*discoveryv1.EndpointSlice) {
	service := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: s.Name, Annotations: s.Annotations},
		Spec:       corev1.ServiceSpec{Type: s.kind(), LoadBalancerSourceRanges: s.SourceRanges},
	}
	for _, p := range s.Ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: p.name(), Protocol: corev1.Protocol(p.Protocol.String()), Port: int32(p.Number), NodePort: int32(p.NodePort),
		})
	}
	s.addAffinity(&service.Spec)
	s.addPolicies(&service.Spec)
	for _, a := range s.Externals {
		service.Spec.ExternalIPs = append(service.Spec.ExternalIPs, a.String())
	}
	for _, a := range s.LoadBalancers {
		ingress := corev1.LoadBalancerIngress{IP: a.String()}
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress, ingress)
	}
	var slices []*discoveryv1.EndpointSlice
	for _, a := range s.Addresses {
		f := state.FamilyOf(a)
		service.Spec.ClusterIPs = append(service.Spec.ClusterIPs, a.String())
		service.Spec.IPFamilies = append(service.Spec.IPFamilies, corev1.IPFamily(f.String()))
		slices = append(slices, s.slice(f))
	}
	service.Spec.ClusterIP = service.Spec.ClusterIPs[0]
	return service, slices
}

func (s Service) kind() corev1.ServiceType {
	if len(s.LoadBalancers) > 0 {
		return corev1.ServiceTypeLoadBalancer
	}
	for _, p := range s.Ports {
		if p.NodePort != 0 {
			return corev1.ServiceTypeNodePort
		}
	}
	return corev1.ServiceTypeClusterIP
}

func (s Service) addAffinity(to *corev1.ServiceSpec) {
	if s.Sticky {
		to.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if s.StickyFor != 0 {
		client := &corev1.ClientIPConfig{TimeoutSeconds: &s.StickyFor}
		to.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: client}
	}
}

func (s Service) addPolicies(to *corev1.ServiceSpec) {
	if s.InternalLocal {
		local := corev1.ServiceInternalTrafficPolicyLocal
		to.InternalTrafficPolicy = &local
	}
	if s.ExternalLocal {
		to.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		to.HealthCheckNodePort = int32(s.HealthPort)
	}
}

func (p Port) name() string { return fmt.Sprintf("%s-%d", p.Protocol.Lower(), p.Number) }

func (s Service) slice(f state.Family) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace,
			Name:      s.Name + "-" + strings.ToLower(f.String()),
			Labels:    map[string]string{discoveryv1.LabelServiceName: s.Name},
		},
		AddressType: discoveryv1.AddressType(f.String()),
	}
	for _, p := range s.Ports {
		name, protocol, number := p.name(), corev1.Protocol(p.Protocol.String()), int32(p.Target)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number})
	}
	for _, e := range s.Endpoints {
		for _, a := range e.Addresses {
			if state.FamilyOf(a) == f {
				slice.Endpoints = append(slice.Endpoints, e.object(a))
			}
		}
	}
	return slice
}

// object returns the endpoint with one of its addresses. Ready is the default.
func (e Endpoint) object(a netip.Addr) discoveryv1.Endpoint {
	o := discoveryv1.Endpoint{Addresses: []string{a.String()}, NodeName: &e.Node}
	if e.Terminating || e.Unready {
		ready, serving := false, !e.Unready
		o.Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &e.Terminating}
	}
	return o
}

// Write writes Services into a manifest of their own, and replaces its content.
func (r *Rig) Write(t testing.TB, name string, services ...Service) {
	t.Helper()
	r.WriteText(t, name, Manifest(t, services...))
}

// WriteText writes any text into a manifest. A reader sees the old or the new text, never a part.
func (r *Rig) WriteText(t testing.TB, name string, text []byte) {
	t.Helper()
	path := filepath.Join(r.Folder, name+".yaml")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Delete removes a manifest.
func (r *Rig) Delete(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(r.Folder, name+".yaml")); err != nil {
		t.Fatal(err)
	}
}

// Manifest returns the YAML of Services.
func Manifest(t testing.TB, services ...Service) []byte {
	t.Helper()
	var text bytes.Buffer
	add := func(object any) {
		document, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString("---\n")
		text.Write(document)
	}
	for _, s := range services {
		service, slices := s.Objects()
		add(service)
		for _, slice := range slices {
			add(slice)
		}
	}
	return text.Bytes()
}
