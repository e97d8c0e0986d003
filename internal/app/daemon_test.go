// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// script is a source that a test calls the sink with.
type script struct {
	calls chan func(cluster.Sink)
	fail  chan error
}

func (s script) Run(ctx context.Context, sink cluster.Sink) error {
	for {
		select {
		case call := <-s.calls:
			call(sink)
		case err := <-s.fail:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// fixed are the addresses of a node, which a test changes.
type fixed struct {
	now      []netip.Addr
	gateways []netip.Addr
	changes  chan node.Event
}

func (f fixed) Now(context.Context) (node.Event, error) {
	return node.Event{Addresses: f.now, Gateways: f.gateways}, nil
}

func (f fixed) Watch(ctx context.Context, each func(node.Event)) error {
	for {
		select {
		case e := <-f.changes:
			each(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// harness is a running daemon with a kernel in memory.
type harness struct {
	kernel    *mem.Kernel
	source    script
	addresses fixed
	flushed   []state.Flow
	stop      context.CancelFunc
	ended     chan error
}

func (h *harness) Flush(_ context.Context, flows []state.Flow) (int, error) {
	h.flushed = append(h.flushed, flows...)
	return len(flows), nil
}

// noPorts opens no port: the clock of a synctest bubble stops while a real socket waits.
type noPorts struct{}

func (noPorts) Set(types.NamespacedName, plan.Fragment) {}
func (noPorts) Follow(plan.Node)                        {}

func start(t *testing.T, k *mem.Kernel, options ...func(*Daemon)) *harness {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	h := &harness{
		kernel:    k,
		source:    script{make(chan func(cluster.Sink)), make(chan error)},
		addresses: fixed{[]netip.Addr{netip.MustParseAddr("192.0.2.1")}, []netip.Addr{netip.MustParseAddr("192.0.2.254")}, make(chan node.Event)},
		stop:      stop,
		ended:     make(chan error, 1),
	}
	d := Daemon{
		Config:    config.Default(),
		NodeName:  "node-1",
		Source:    h.source,
		Addresses: h.addresses,
		Kernel:    reconcile.Kernel{Tables: k.Tables(), Flusher: h, Connections: mem.Observer{Kernel: k}},
		Ports:     noPorts{},
		Log:       zap.NewNop(),
	}
	for _, option := range options {
		option(&d)
	}
	go func() { h.ended <- d.Run(ctx) }()
	t.Cleanup(stop)
	return h
}

// call makes calls to the daemon and waits until it has nothing left to do.
func (h *harness) call(calls ...func(cluster.Sink)) {
	for _, call := range calls {
		h.source.calls <- call
	}
	synctest.Wait()
}

// changeBehind changes the kernel behind the daemon's back. Deleting an unknown Service changes nothing, but orders the
// memory accesses for the race detector.
func (h *harness) changeBehind(change func(state.State)) {
	h.call(func(sink cluster.Sink) {
		change(h.kernel.State)
		sink.Service(types.NamespacedName{Name: "unknown"}, nil)
	})
}

func (h *harness) servers() []string {
	var names []string
	for k := range h.kernel.State.RealServers {
		names = append(names, k.String())
	}
	slices.Sort(names)
	return names
}

func (h *harness) mustServe(t *testing.T, want ...string) {
	t.Helper()
	if got := h.servers(); len(got) == 0 || !slices.Equal(got, want) {
		t.Errorf("real servers %q, want %q", got, want)
	}
}

var key = types.NamespacedName{Namespace: "shop", Name: "web"}

// web adds a NodePort Service with one endpoint.
func web(endpoint string) func(cluster.Sink) {
	name, port, tcp := "http", int32(8080), corev1.ProtocolTCP
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.80", ClusterIPs: []string{"10.96.0.80"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: name, Port: 80, NodePort: 30080, Protocol: tcp}},
		},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: key.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{endpoint}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	}
	return func(sink cluster.Sink) { sink.Service(key, cluster.Pack(s, slice)) }
}

func synced(sink cluster.Sink) { sink.Listed(cluster.Complete) }

func TestServicesReachTheKernelOnceAllAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"))
		if n := len(h.kernel.State.Sets); n != 0 {
			t.Errorf("%d sets before all Services are known, want none", n)
		}
		h.call(synced)
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.10:8080", "TCP 192.0.2.1:30080 -> 10.244.1.10:8080")
	})
}

func TestANewAddressOfTheNodeGetsTheNodePortsAndALostOneLosesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"), synced)
		h.addresses.changes <- node.Event{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
		time.Sleep(2 * drainCheck) // of the bubble's clock; without connections it is soon drained
		synctest.Wait()
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.10:8080", "TCP 192.0.2.7:30080 -> 10.244.1.10:8080")
	})
}

func TestTheNodesOwnPacketsAreCutToWhatItsDevicesCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"), synced)
		for _, mtu := range []uint32{1450, 1400, 0} {
			h.addresses.changes <- node.Event{Addresses: h.addresses.now, Gateways: h.addresses.gateways, MTU: mtu}
			synctest.Wait()
			want := map[state.Address]state.Binding{{Addr: netip.MustParseAddr("10.96.0.80")}: {MTU: mtu}}
			if !maps.Equal(h.kernel.State.Addresses, want) {
				t.Errorf("addresses are %v, want %v", h.kernel.State.Addresses, want)
			}
		}
	})
}

// externally is web with an external IP.
func externally(ip string) func(cluster.Sink) {
	return func(sink cluster.Sink) { web("10.244.1.10")(withExternalIP{sink, ip}) }
}

type withExternalIP struct {
	cluster.Sink
	ip string
}

func (w withExternalIP) Service(key types.NamespacedName, o *cluster.Objects) {
	s, slices := o.Unpack()
	s.Spec.ExternalIPs = []string{w.ip}
	w.Sink.Service(key, cluster.Pack(s, slices...))
}

func TestTheAddressesOfOthersAreNoServices(t *testing.T) {
	node := func(name, address string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		return n
	}
	nodes := func(others ...*corev1.Node) func(cluster.Sink) {
		return func(sink cluster.Sink) { sink.Place(cluster.Place{Node: node("node-1", "192.0.2.1"), Others: others}) }
	}
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		served := func(want bool) {
			t.Helper()
			synctest.Wait()
			time.Sleep(2 * drainCheck) // of the bubble's clock
			synctest.Wait()
			if got := slices.Contains(h.servers(), "TCP 192.0.2.2:80 -> 10.244.1.10:8080"); got != want {
				t.Errorf("served is %v, want %v: %q", got, want, h.servers())
			}
		}
		h.call(nodes(), externally("192.0.2.2"), synced)
		served(true)
		h.call(nodes(node("node-2", "192.0.2.2")))
		served(false)
		h.call(nodes(node("node-2", "192.0.2.3")))
		served(true)
		h.addresses.changes <- kernelSays("192.0.2.1", "192.0.2.2")
		served(false)
		h.addresses.changes <- kernelSays("192.0.2.1", "192.0.2.254")
		served(true)
	})
}

func kernelSays(address, gateway string) node.Event {
	return node.Event{Addresses: []netip.Addr{netip.MustParseAddr(address)}, Gateways: []netip.Addr{netip.MustParseAddr(gateway)}}
}

func TestWhatSomebodyChangesIsRepairedWithinTheSyncPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"), synced)
		want := maps.Clone(h.kernel.State.RealServers)
		h.changeBehind(func(s state.State) {
			clear(s.RealServers)
			clear(s.VirtualServers)
			clear(s.Jumps)
		})
		time.Sleep(config.Default().SyncPeriod) // of the bubble's clock
		synctest.Wait()
		if !maps.Equal(h.kernel.State.RealServers, want) || len(h.kernel.State.Jumps) == 0 {
			t.Errorf("after a sync period: real servers %v, %d jumps", h.servers(), len(h.kernel.State.Jumps))
		}
	})
}

func TestALostDeviceIsMadeAnewAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"), synced)
		time.Sleep(5 * time.Second) // past the pause between audits
		h.changeBehind(func(s state.State) {
			clear(s.Links)
			clear(s.Addresses)
		})
		h.addresses.changes <- node.Event{Addresses: h.addresses.now, LinkLost: true}
		synctest.Wait()
		if len(h.kernel.State.Addresses) != 1 {
			t.Errorf("addresses %v after the device was lost, want the Service's", h.kernel.State.Addresses)
		}
	})
}

func TestTheKernelStaysAsItIsWhenTheDaemonEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"), synced)
		before := h.servers()
		h.stop()
		if err := <-h.ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		h.mustServe(t, before...)
	})
}

func TestASourceThatFailsEndsTheDaemonAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(web("10.244.1.10"), synced)
		broken := errors.New("no more watches")
		h.source.fail <- broken
		if err := <-h.ended; !errors.Is(err, broken) {
			t.Errorf("ended with %v, want %v", err, broken)
		}
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.10:8080", "TCP 192.0.2.1:30080 -> 10.244.1.10:8080")
	})
}

func TestADeletedServiceLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New())
		h.call(synced)
		empty := len(h.kernel.State.Entries)
		h.call(web("10.244.1.10"), func(sink cluster.Sink) { sink.Service(key, nil) })
		time.Sleep(2 * drainCheck) // of the bubble's clock: what was made already drains first
		synctest.Wait()
		s := h.kernel.State
		if len(s.VirtualServers)+len(s.RealServers)+len(s.Addresses) != 0 || len(s.Entries) != empty {
			t.Errorf("left: %v %v %v %v", s.VirtualServers, s.RealServers, s.Addresses, s.Entries)
		}
	})
}
