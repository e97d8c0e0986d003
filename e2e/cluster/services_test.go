// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// kinds returns a Service of each kind.
func kinds() []rig.Service {
	sticky := clusterIP(2, "sticky", pods("pod-a", "pod-d")...)
	sticky.Sticky = true
	local := clusterIP(3, "local", pods("pod-b", "pod-d")...)
	local.InternalLocal = true
	guarded := loadBalancer(6, clusterIP(6, "guarded", pods("pod-a", "pod-d")...))
	guarded.SourceRanges = []string{"192.0.2.0/24", "2001:db8:1::/64"}
	outside := loadBalancer(7, clusterIP(7, "outside", pods("pod-a")...))
	outside.ExternalLocal, outside.HealthPort = true, 30507
	single := clusterIP(8, "single", pods("pod-c")...)
	single.Addresses = single.Addresses[:1]
	return []rig.Service{
		clusterIP(1, "1st", pods("pod-a", "pod-b", "pod-d")...), sticky, local,
		nodePort(4, clusterIP(4, "node-port", pods("pod-c", "pod-e")...)),
		loadBalancer(5, clusterIP(5, "balanced", pods("pod-b", "pod-e")...)),
		guarded, outside, single,
		clusterIP(9, "empty"),
	}
}

// ofNoProxy returns Services that kube-ipvs must ignore.
func ofNoProxy() []*corev1.Service {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: rig.Namespace, Name: name} }
	port := []corev1.ServicePort{{Port: 80}}
	other := &corev1.Service{ObjectMeta: meta("other"), Spec: corev1.ServiceSpec{Ports: port, ClusterIP: "10.96.1.99"}}
	other.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "another"}
	return []*corev1.Service{
		{ObjectMeta: meta("headless"), Spec: corev1.ServiceSpec{Ports: port, ClusterIP: corev1.ClusterIPNone}},
		{ObjectMeta: meta("named"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}},
		other,
	}
}

func TestServicesOfEveryKindAppearChangeAndVanishOnEveryNode(t *testing.T) {
	s := newStage(t)
	s.startAll(t)
	bare := s.settle(t)
	s.put(t, kinds()...)
	for _, o := range ofNoProxy() {
		s.putService(t, o)
	}
	full := s.settle(t)
	for i, n := range s.nodes {
		if added := len(full[i].VirtualServers) - len(bare[i].VirtualServers); added < 2*2*len(kinds()) {
			t.Errorf("%s: %d virtual servers were added for %d Services", n.Node.Name, added, len(kinds()))
		}
	}
	balanced := kinds()[4]
	awaitAnswers(t, flowsTo(balanced)...)

	t.Run("a pod reaches the API server at its Service", func(t *testing.T) {
		for _, pod := range []string{"pod-client", "pod-e"} {
			s.awaitPage(t, pod, "https://10.96.0.1/livez", "200")
		}
	})
	t.Run("what changed is as it is now", func(t *testing.T) {
		changed := kinds()
		changed[0].Endpoints = pods("pod-c", "pod-e")
		changed[1].Sticky = false
		changed[2].InternalLocal = false
		changed[3] = clusterIP(4, "node-port", pods("pod-c", "pod-e")...)
		changed[4].Endpoints = pods("pod-a", "pod-d")
		changed[4].ExternalLocal, changed[4].HealthPort = true, 30505
		changed[5].SourceRanges = []string{"198.51.100.0/24"}
		changed[6].Endpoints[0].Terminating = true
		changed[7].Ports = []rig.Port{{Protocol: state.TCP, Number: 8443, Target: podPort}}
		changed[8].Endpoints = pods("pod-a", "pod-d")
		s.put(t, changed...)
		s.settle(t)
		awaitAnswers(t, flow{"pod-client", at(changed[8].Address(state.IPv6), 80), state.TCP, false})
	})
	t.Run("what is gone is gone", func(t *testing.T) {
		if err := s.clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, left := range s.settle(t) {
			if n := len(left.VirtualServers); n != len(bare[i].VirtualServers) {
				t.Errorf("%s: %d virtual servers are left", s.nodes[i].Node.Name, n)
			}
		}
	})
}

// run runs a command on a host, which must succeed, and returns its output.
func (s *stage) run(t *testing.T, host string, argv ...string) string {
	t.Helper()
	output, err := s.world.Host(host).Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}
