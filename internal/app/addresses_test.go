// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

const wanted = "203.0.113.9"

// wanting adds a Service that wants some addresses.
func wanting(externalIPs ...string) func(cluster.Sink) {
	key := types.NamespacedName{Namespace: "shop", Name: "wanting"}
	tcp := corev1.ProtocolTCP
	meta := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "9"}
	s := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.90", ClusterIPs: []string{"10.96.0.90"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Port: 80, Protocol: tcp}}, ExternalIPs: externalIPs,
	}}
	meta.Labels = map[string]string{discoveryv1.LabelServiceName: key.Name}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.90"}}},
		Ports:     []discoveryv1.EndpointPort{{Port: new(int32(8080)), Protocol: &tcp}},
	}
	return func(sink cluster.Sink) { sink.Service(key, cluster.Pack(s, slice)) }
}

func (h *harness) binds(address string) bool {
	_, bound := h.kernel.State.Addresses[state.Address{Addr: netip.MustParseAddr(address)}]
	return bound
}

// busy gives every real server a connection, so that it drains.
func (h *harness) busy() {
	for k := range h.kernel.State.RealServers {
		h.kernel.Connections[k] = state.Connections{Active: 1}
	}
}

func TestAnAddressIsUnboundAsSoonAsItIsAnEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &eventLog{}
		h := start(t, mem.New(), func(d *Daemon) { d.Notices = newNotices(p) })
		h.call(wanting(wanted), web("10.244.1.10"), synced)
		if !h.binds(wanted) {
			t.Fatal("an unowned address is not bound")
		}
		h.busy()
		h.call(web(wanted))
		if h.binds(wanted) {
			t.Error("the address of an endpoint is bound")
		}
		p.mustHave(t, "when an endpoint came", "all: shop/wanting 9 ProtectedAddress: spec.externalIPs[0]: "+wanted+" is the address of an endpoint; not served there")
		h.call(web("10.244.1.10"))
		if !h.binds(wanted) {
			t.Error("when the endpoint has left, the address is not bound")
		}
	})
}

func TestWhatDrainsDoesNotKeepAnAddressThatIsAnothersNow(t *testing.T) {
	for name, come := range map[string]func(*harness){
		"an endpoint": func(h *harness) { h.call(web(wanted)) },
		"a gateway": func(h *harness) {
			h.addresses.changes <- node.Event{Addresses: h.addresses.now, Gateways: []netip.Addr{netip.MustParseAddr(wanted)}}
			synctest.Wait()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, mem.New())
			h.call(wanting(wanted), web("10.244.1.10"), synced)
			h.busy()
			h.call(wanting())
			time.Sleep(2 * drainCheck)
			synctest.Wait()
			if !h.binds(wanted) {
				t.Fatalf("%s: the address is not kept for a connection", name)
			}
			come(h)
			if h.binds(wanted) {
				t.Errorf("%s: the address is bound", name)
			}
		})
	}
}

func TestTheNetworksOfTheNodeHaveAddressesThatAreNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(wanting("203.0.113.255"), synced)
		if !h.binds("203.0.113.255") {
			t.Fatal("the last address of a network that the node is not in is not bound")
		}
		h.addresses.changes <- node.Event{Addresses: h.addresses.now, Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
		synctest.Wait()
		if h.binds("203.0.113.255") {
			t.Error("a broadcast address of the node is bound")
		}
	})
}
