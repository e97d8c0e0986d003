// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// shop is a Service with a cluster IP and ports of one protocol, named by their numbers.
func shop(p corev1.Protocol, ports ...int32) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: corev1.ServiceSpec{
			Type:      corev1.ServiceTypeClusterIP,
			ClusterIP: "10.96.0.80", ClusterIPs: []string{"10.96.0.80"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		},
	}
	for _, n := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(n), Port: n, Protocol: p})
	}
	return s
}

// behind is a slice for one port, with endpoints on this node. Their port is 8000 more.
func behind(p corev1.Protocol, port int32, endpoints ...string) *discoveryv1.EndpointSlice {
	name, number, node := fmt.Sprint(port), 8000+port, "node-1"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: fmt.Sprint("web-", port), Labels: map[string]string{discoveryv1.LabelServiceName: key.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &p}},
	}
	for _, a := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: &node})
	}
	return slice
}

// offer sets the Service, and waits until what it had before is drained.
func (h *harness) offer(s *corev1.Service, slices ...*discoveryv1.EndpointSlice) {
	h.call(func(sink cluster.Sink) { sink.Service(key, cluster.Pack(s, slices...)) })
	time.Sleep(2 * drainCheck) // of the bubble's clock
	synctest.Wait()
}

// emptyHarness is a harness that is synced, with no Services.
func emptyHarness(t *testing.T) *harness {
	h := start(t, mem.New())
	h.call(synced)
	return h
}

func texts[K interface {
	comparable
	String() string
}, V any](rows map[K]V) []string {
	names := []string{}
	for k := range rows {
		names = append(names, k.String())
	}
	slices.Sort(names)
	return names
}

// entries returns the entries of one set.
func (h *harness) entries(set state.SetName) []string {
	names := []string{}
	for k := range h.kernel.State.Entries {
		if k.Set == set {
			names = append(names, k.Member())
		}
	}
	slices.Sort(names)
	return names
}

func wantTexts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

const viaTCP, viaUDP, viaSCTP = corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP

func TestPortsComeAndGoAndTheAddressStaysForTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		for _, c := range []struct {
			ports []int32
			want  []string
		}{
			{[]int32{80, 443}, []string{"TCP 10.96.0.80:443", "TCP 10.96.0.80:80"}},
			{[]int32{443}, []string{"TCP 10.96.0.80:443"}},
			{[]int32{80, 443, 22}, []string{"TCP 10.96.0.80:22", "TCP 10.96.0.80:443", "TCP 10.96.0.80:80"}},
		} {
			h.offer(shop(viaTCP, c.ports...), behind(viaTCP, 443, "10.244.1.1"), behind(viaTCP, 80, "10.244.1.1"))
			wantTexts(t, fmt.Sprint("ports ", c.ports), texts(h.kernel.State.VirtualServers), c.want...)
			wantTexts(t, fmt.Sprint("addresses with ports ", c.ports), texts(h.kernel.State.Addresses), "10.96.0.80")
		}
		h.offer(nil)
		wantTexts(t, "virtual servers at the end", texts(h.kernel.State.VirtualServers))
		wantTexts(t, "addresses at the end", texts(h.kernel.State.Addresses))
	})
}

func TestAServiceThatGoesBeforeAllAreKnownIsNeverMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.offer(shop(viaTCP, 80), behind(viaTCP, 80, "10.244.1.1"))
		h.offer(nil)
		h.call(synced)
		if h.kernel.State.VirtualServers[serverOf(80)] != (state.VirtualServer{}) || len(h.kernel.State.Addresses) != 0 {
			t.Errorf("made: %v, %v", h.kernel.State.VirtualServers, h.kernel.State.Addresses)
		}
	})
}

func serverOf(port uint16) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.AddrPortFrom(netip.MustParseAddr("10.96.0.80"), port), Protocol: state.TCP}
}

func TestTheHealthCheckPortAndTheLocalSetsFollowTheTrafficPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		balanced := func(policy corev1.ServiceExternalTrafficPolicy, port int32) *corev1.Service {
			s := shop(viaTCP, 80)
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, policy, port
			s.Spec.Ports[0].NodePort = 30080
			return s
		}
		const local, anywhere = corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster
		for _, c := range []struct {
			name          string
			service       *corev1.Service
			health, ports []string
		}{
			{"ClusterIP", shop(viaTCP, 80), nil, nil},
			{"Local", balanced(local, 32000), []string{"32000"}, []string{"30080"}},
			{"Local, another port", balanced(local, 32001), []string{"32001"}, []string{"30080"}},
			{"Cluster", balanced(anywhere, 32001), nil, nil},
			{"Local again", balanced(local, 32001), []string{"32001"}, []string{"30080"}},
			{"ClusterIP again", shop(viaTCP, 80), nil, nil},
			{"Local once more", balanced(local, 32001), []string{"32001"}, []string{"30080"}},
			{"deleted", nil, nil, nil},
		} {
			h.offer(c.service, behind(viaTCP, 80, "10.244.1.1"))
			wantTexts(t, c.name+": health checks", h.entries("KUBE-HEALTH-CHECK-NODE-PORT"), c.health...)
			wantTexts(t, c.name+": local NodePorts", h.entries("KUBE-NODE-PORT-LOCAL-TCP"), c.ports...)
		}
	})
}

func TestAServiceIsServedWhileItsLabelsAndTypeSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		another, external, ported := shop(viaTCP, 80), shop(viaTCP, 80), shop(viaTCP, 80)
		another.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "another"}
		external.Spec.Type = corev1.ServiceTypeExternalName
		ported.Spec.Type, ported.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
		const clusterIP, nodePort = "TCP 10.96.0.80:80 -> 10.244.1.1:8080", "TCP 192.0.2.1:30080 -> 10.244.1.1:8080"
		for _, c := range []struct {
			name    string
			service *corev1.Service
			want    []string
		}{
			{"made for another proxy", another, nil},
			{"without the label", shop(viaTCP, 80), []string{clusterIP}},
			{"labelled", another, nil},
			{"without the label again", shop(viaTCP, 80), []string{clusterIP}},
			{"ExternalName", external, nil},
			{"NodePort", ported, []string{clusterIP, nodePort}},
			{"ExternalName again", external, nil},
		} {
			h.offer(c.service, behind(viaTCP, 80, "10.244.1.1"))
			wantTexts(t, c.name, h.servers(), c.want...)
			if (len(h.kernel.State.Addresses) == 0) != (len(c.want) == 0) {
				t.Errorf("%s: addresses %v", c.name, h.kernel.State.Addresses)
			}
		}
	})
}

func TestRealServersFollowTheSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		renamed, more, two := behind(viaTCP, 80, "10.244.1.1"), behind(viaTCP, 443, "10.244.1.1"), shop(viaTCP, 80, 443)
		*renamed.Ports[0].Name = "other"
		more.Ports = append(more.Ports, behind(viaTCP, 80).Ports...)
		const web, next, tls = "TCP 10.96.0.80:80 -> 10.244.1.1:8080", "TCP 10.96.0.80:80 -> 10.244.1.2:8080", "TCP 10.96.0.80:443 -> 10.244.1.1:8443"
		for _, c := range []struct {
			name   string
			slices []*discoveryv1.EndpointSlice
			want   []string
		}{
			{"one endpoint", []*discoveryv1.EndpointSlice{behind(viaTCP, 80, "10.244.1.1")}, []string{web}},
			{"an endpoint more", []*discoveryv1.EndpointSlice{behind(viaTCP, 80, "10.244.1.1", "10.244.1.2")}, []string{web, next}},
			{"another endpoint", []*discoveryv1.EndpointSlice{behind(viaTCP, 80, "10.244.1.2")}, []string{next}},
			{"a port more", []*discoveryv1.EndpointSlice{more}, []string{tls, web}},
			{"a port less", []*discoveryv1.EndpointSlice{behind(viaTCP, 443, "10.244.1.1")}, []string{tls}},
			{"a slice more", []*discoveryv1.EndpointSlice{behind(viaTCP, 443, "10.244.1.1"), behind(viaTCP, 80, "10.244.1.1")}, []string{tls, web}},
			{"a port of another name", []*discoveryv1.EndpointSlice{renamed}, nil},
			{"its old name", []*discoveryv1.EndpointSlice{behind(viaTCP, 80, "10.244.1.1")}, []string{web}},
			{"no slice", nil, nil},
		} {
			h.offer(two, c.slices...)
			wantTexts(t, c.name, h.servers(), c.want...)
			wantTexts(t, c.name+": virtual servers", texts(h.kernel.State.VirtualServers), "TCP 10.96.0.80:443", "TCP 10.96.0.80:80")
			if hairpins := h.entries("KUBE-LOOP-BACK"); len(hairpins) != len(c.want) {
				t.Errorf("%s: endpoints that may meet themselves are %q", c.name, hairpins)
			}
		}
	})
}

func TestTheNodesZoneAndAddressesCountWhenTheyAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		s, slice := shop(viaTCP, 80), behind(viaTCP, 80, "10.244.1.1", "10.244.1.2")
		for i, zone := range []string{"a", "b"} {
			slice.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		}
		s.Spec.LoadBalancerSourceRanges = []string{"10.9.0.0/16"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.7"}}
		h.offer(s, slice)
		zoned := func(zone, role, address string) *corev1.Node {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: zone, "role": role}}}
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
			return n
		}
		const first, second = "TCP 10.96.0.80:80 -> 10.244.1.1:8080", "TCP 10.96.0.80:80 -> 10.244.1.2:8080"
		for _, c := range []struct {
			name   string
			node   *corev1.Node
			want   []string
			inside bool
		}{
			{"no Node", nil, []string{first, second}, false},
			{"zone a", zoned("a", "x", "10.8.0.1"), []string{first}, false},
			{"another role", zoned("a", "y", "10.8.0.1"), []string{first}, false},
			{"zone b", zoned("b", "y", "10.8.0.1"), []string{second}, false},
			{"an address in the ranges", zoned("b", "y", "10.9.0.1"), []string{second}, true},
			{"deleted", nil, []string{first, second}, false},
		} {
			h.call(func(sink cluster.Sink) { sink.Place(cluster.Place{Node: c.node}) })
			time.Sleep(2 * drainCheck) // of the bubble's clock
			synctest.Wait()
			got := slices.DeleteFunc(h.servers(), func(s string) bool { return s[:len("TCP 10")] != "TCP 10" })
			wantTexts(t, c.name, got, c.want...)
			if inside := len(h.entries("KUBE-LOAD-BALANCER-SOURCE-IP")) > 0; inside != c.inside {
				t.Errorf("%s: the node is in the source ranges: %v, want %v", c.name, inside, c.inside)
			}
		}
	})
}

func TestAnExternalIPThatTheNodeGetsIsServedButNotBoundAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		s := shop(viaTCP, 80)
		s.Spec.ExternalIPs = []string{"192.0.2.9"}
		h.offer(s, behind(viaTCP, 80, "10.244.1.1"))
		wantTexts(t, "addresses at first", texts(h.kernel.State.Addresses), "10.96.0.80", "192.0.2.9")
		h.addresses.changes <- node.Event{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9")}}
		synctest.Wait()
		wantTexts(t, "addresses when it is the node's", texts(h.kernel.State.Addresses), "10.96.0.80")
		wantTexts(t, "addresses in the set", h.entries("KUBE-IPVS-IPS"), "10.96.0.80")
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.1:8080", "TCP 192.0.2.9:80 -> 10.244.1.1:8080")
	})
}

func TestAffinityIsSwitchedInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		for _, affinity := range []corev1.ServiceAffinity{corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone} {
			s, v := shop(viaTCP, 80), state.VirtualServer{Scheduler: "rr", Prefix: 32}
			if s.Spec.SessionAffinity = affinity; affinity == corev1.ServiceAffinityClientIP {
				v.Flags, v.Timeout = state.Persistent, 10800
			}
			h.call(func(sink cluster.Sink) {
				sink.Service(key, cluster.Pack(s, behind(viaTCP, 80, "10.244.1.1")))
			})
			if got := h.kernel.State.VirtualServers[serverOf(80)]; got != v {
				t.Errorf("affinity %s: %+v, want %+v", affinity, got, v)
			}
			h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.1:8080")
		}
	})
}

func TestSourceRangesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		for _, c := range []struct {
			name                    string
			ranges, guarded, allows []string
		}{
			{"none", nil, nil, nil},
			{"one", []string{"198.51.100.7/32"}, []string{"203.0.113.7,tcp:80"}, []string{"203.0.113.7,tcp:80,198.51.100.7"}},
			{"all", []string{"0.0.0.0/0"}, nil, nil},
			{"another", []string{"10.0.0.0/8"}, []string{"203.0.113.7,tcp:80"}, []string{"203.0.113.7,tcp:80,10.0.0.0/8"}},
			{"none again", nil, nil, nil},
		} {
			s := shop(viaTCP, 80)
			s.Spec.LoadBalancerSourceRanges = c.ranges
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.7"}}
			h.offer(s, behind(viaTCP, 80, "10.244.1.1"))
			wantTexts(t, c.name+": guarded", h.entries("KUBE-LOAD-BALANCER-FW"), c.guarded...)
			wantTexts(t, c.name+": allowed", h.entries("KUBE-LOAD-BALANCER-SOURCE-CIDR"), c.allows...)
		}
	})
}
