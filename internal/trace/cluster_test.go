// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// The addresses of a small cluster, seen from one node of it.
const (
	clusterIP, clusterIP6   = "10.96.0.80", "fd00:10:96::80"
	balancer, balancer6     = "203.0.113.80", "2001:db8:113::80"
	external, external6     = "198.51.100.80", "2001:db8:100::80"
	nodeIP, nodeIP6         = "192.0.2.1", "2001:db8:2::1"
	podHere, podHere6       = "10.244.1.5", "fd00:10:244:1::5" // an endpoint on this node
	podThere, podThere6     = "10.244.2.6", "fd00:10:244:2::6" // one on another
	podClient, podClient6   = "10.244.1.9", "fd00:10:244:1::9"
	outside, outside6       = "192.0.2.200", "2001:db8:2::200"
	port, nodePort          = 80, 30080
	targetPort              = 8080
	healthPort              = 32000
	serviceName             = "shop/web:http"
	podCIDR, podCIDR6       = "10.244.0.0/16", "fd00:10:244::/56"
	outsideNet, outsideNet6 = "192.0.2.192/26", "2001:db8:2::200/120"
)

func where() trace.Where {
	return trace.Where{Addresses: []netip.Addr{netip.MustParseAddr(nodeIP), netip.MustParseAddr(nodeIP6)}}
}

// cidrs returns the configuration of a cluster that recognizes pods by their address.
func cidrs() config.Config {
	c := config.Default()
	c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: []netip.Prefix{
		netip.MustParsePrefix(podCIDR), netip.MustParsePrefix(podCIDR6),
	}}
	return c
}

// policies are the differences between the Services of the tests.
type policies struct {
	protocol                     corev1.Protocol
	externalLocal, internalLocal bool
	here, there                  bool // the endpoints that it has
	ranges                       []string
}

func both() policies { return policies{protocol: corev1.ProtocolTCP, here: true, there: true} }

func service(p policies) *corev1.Service {
	etp, itp := corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyCluster
	if p.externalLocal {
		etp = corev1.ServiceExternalTrafficPolicyLocal
	}
	if p.internalLocal {
		itp = corev1.ServiceInternalTrafficPolicyLocal
	}
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type:      corev1.ServiceTypeLoadBalancer,
			ClusterIP: clusterIP, ClusterIPs: []string{clusterIP, clusterIP6},
			IPFamilies:  []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			ExternalIPs: []string{external, external6},
			Ports: []corev1.ServicePort{{
				Name: "http", Protocol: p.protocol, Port: port, NodePort: nodePort, TargetPort: intstr.FromInt32(targetPort),
			}},
			ExternalTrafficPolicy: etp, InternalTrafficPolicy: &itp,
			LoadBalancerSourceRanges: p.ranges,
		},
	}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: balancer}, {IP: balancer6}}
	if p.externalLocal {
		s.Spec.HealthCheckNodePort = healthPort
	}
	return s
}

func endpointSlices(p policies) []*discoveryv1.EndpointSlice {
	name, number := "http", int32(targetPort)
	slice := func(suffix string, kind discoveryv1.AddressType, here, there string) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-" + suffix, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: kind,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &p.protocol, Port: &number}},
		}
		ready, us, other := true, "here", "there"
		if p.here {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{here}, NodeName: &us, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			})
		}
		if p.there {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{there}, NodeName: &other, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			})
		}
		return s
	}
	return []*discoveryv1.EndpointSlice{
		slice("4", discoveryv1.AddressTypeIPv4, podHere, podThere),
		slice("6", discoveryv1.AddressTypeIPv6, podHere6, podThere6),
	}
}

// rows returns the desired rows of a node with one Service.
func rows(t testing.TB, c config.Config, p policies) state.State {
	t.Helper()
	all, notes := planned(c, p)
	for _, note := range notes {
		t.Errorf("the plan has the note %v", note)
	}
	return all
}

func planned(c config.Config, p policies) (state.State, []state.Note) {
	n := plan.Node{
		Name:      "here",
		IPs:       []netip.Addr{netip.MustParseAddr(nodeIP), netip.MustParseAddr(nodeIP6)},
		Addresses: where().Addresses,
	}
	f := plan.Service(plan.Objects{Service: service(p), Slices: endpointSlices(p)}, n, c)
	all, more := plan.Base(c).State(), f.State()
	maps.Copy(all.Entries, more.Entries)
	maps.Copy(all.VirtualServers, more.VirtualServers)
	maps.Copy(all.RealServers, more.RealServers)
	maps.Copy(all.Addresses, more.Addresses)
	return all, f.Notes
}

// packet returns one to an address and port, by protocol p; an empty client is none.
func packet(p state.Protocol, client, to string, port uint16) trace.Packet {
	a := trace.Packet{Protocol: p, Destination: netip.AddrPortFrom(netip.MustParseAddr(to), port)}
	if client != "" {
		a.Source = netip.AddrPortFrom(netip.MustParseAddr(client), 0)
	}
	return a
}

func fromNode() trace.Where {
	w := where()
	w.Node = true
	return w
}
