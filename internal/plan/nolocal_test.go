// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestPortsAreCountedThatAPolicyLeavesWithoutEndpoints(t *testing.T) {
	const local, anywhere = corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster
	inside := corev1.ServiceInternalTrafficPolicyLocal
	for _, c := range []struct {
		name            string
		internal        *corev1.ServiceInternalTrafficPolicy
		external        corev1.ServiceExternalTrafficPolicy
		nodes           []string // of endpoints
		wantIn, wantOut int
	}{
		{"policy Cluster", nil, anywhere, []string{"node-2"}, 0, 0},
		{"endpoints elsewhere, for those outside", nil, local, []string{"node-2"}, 0, 2},
		{"endpoints elsewhere, for the cluster", &inside, anywhere, []string{"node-2"}, 2, 0},
		{"endpoints elsewhere, for all", &inside, local, []string{"node-2"}, 2, 2},
		{"an endpoint here", &inside, local, []string{"node-2", "node-1"}, 0, 0},
		{"no endpoint anywhere", &inside, local, nil, 0, 0},
	} {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.80", ClusterIPs: []string{"10.96.0.80"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			InternalTrafficPolicy: c.internal, ExternalTrafficPolicy: c.external, ExternalIPs: []string{"203.0.113.7"},
		}}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4,
		}
		for i, name := range []string{"http", "https"} {
			port, number, tcp := int32(80+i), int32(8080+i), corev1.ProtocolTCP
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: port, NodePort: 30080 + int32(i), Protocol: tcp})
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &tcp})
		}
		for i, node := range c.nodes {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 244, byte(i), 1}).String()}, NodeName: &node})
		}
		n := Node{Name: "node-1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}}
		f := Service(Objects{Service: s, Slices: []*discoveryv1.EndpointSlice{slice}}, n, config.Default())
		if in, out := NoLocal(f, state.IPv4); in != c.wantIn || out != c.wantOut {
			t.Errorf("%s: %d for the cluster and %d for those outside, want %d and %d", c.name, in, out, c.wantIn, c.wantOut)
		}
		if in, out := NoLocal(f, state.IPv6); in+out != 0 {
			t.Errorf("%s: %d and %d of IPv6", c.name, in, out)
		}
	}
}
