// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// idleSignal is an observer that signals when there is nothing left to do.
type idleSignal chan struct{}

func (idleSignal) Received(reconcile.Change)   {}
func (idleSignal) Acted(reconcile.Act)         {}
func (c idleSignal) Settled(reconcile.Balance) { c <- struct{}{} }

// rig is a planner and a loop over a kernel that takes everything. Changes go through all of it, one at a time.
type rig struct {
	planner    *planner
	idleSignal idleSignal
	ops        *testkit.Operations
}

func newRig(t testing.TB, services int) rig {
	c := config.Default()
	c.SyncPeriod, c.MinSyncPeriod = time.Hour, 0
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	events := make(chan reconcile.Event, queueLength)
	d := Daemon{Config: c, NodeName: "here", Ports: noPorts{}, Log: zap.NewNop()}
	w := rig{planner: newPlanner(ctx, d, events), idleSignal: make(idleSignal), ops: &testkit.Operations{}}
	k := reconcile.Kernel{Tables: testkit.Metered(testkit.Holes(), w.ops), Flusher: testkit.Idle{}, Connections: testkit.Idle{}}
	go reconcile.NewLoop(d.loopOptions(), k, d.Log, w.idleSignal).Run(ctx, events)
	w.planner.planBase()
	w.planner.SetAddresses(node.Event{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	for n := range services {
		w.planner.Service(name(n), packed(n, 0))
	}
	w.planner.Listed(cluster.Complete)
	<-w.idleSignal
	return w
}

func (w rig) change(n, first int) {
	w.planner.Service(name(n), packed(n, first))
	<-w.idleSignal
}

func name(n int) types.NamespacedName {
	return types.NamespacedName{Namespace: "rig", Name: fmt.Sprintf("service-%05d", n)}
}

// packed is a Service of UDP, whose endpoints leave at once, with four endpoints from a first one on.
func packed(n, first int) *cluster.Objects {
	meta := metav1.ObjectMeta{Namespace: name(n).Namespace, Name: name(n).Name}
	ip := netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}).String()
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}},
	}}
	port, protocol := int32(53), corev1.ProtocolUDP
	meta.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Port: &port, Protocol: &protocol}},
	}
	for i := first; i < first+4; i++ {
		a := netip.AddrFrom4([4]byte{10, 128 + byte(i), byte(n >> 8), byte(n)})
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}})
	}
	return cluster.Pack(service, slice)
}

func TestAChangeCostsTheSameWith10AndWith40000Services(t *testing.T) {
	type cost struct {
		testkit.Operations
		bytes, objects float64
	}
	measure := func(services int) cost {
		const changes = 2000
		w := newRig(t, services)
		w.change(5, 1)
		*w.ops = testkit.Operations{}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range changes {
			w.change(5, i%2)
		}
		runtime.ReadMemStats(&after)
		w.ops.Rows /= changes
		return cost{*w.ops, float64(after.TotalAlloc-before.TotalAlloc) / changes, float64(after.Mallocs-before.Mallocs) / changes}
	}
	few, many := measure(10), measure(40_000)
	t.Logf("with 10 Services %+v, with 40,000 %+v", few, many)
	if want := (testkit.Operations{Rows: 2}); few.Operations != want || many.Operations != want {
		t.Errorf("operations %+v and %+v, want %+v: one endpoint leaves, one comes", few.Operations, many.Operations, want)
	}
	if many.bytes > few.bytes*1.1+256 || many.objects > few.objects+5 {
		t.Errorf("with 10 Services %.0f bytes in %.0f objects, with 40,000 %.0f in %.0f", few.bytes, few.objects, many.bytes, many.objects)
	}
}

// BenchmarkChange measures the change of one endpoint, from the objects on and without the kernel.
func BenchmarkChange(b *testing.B) {
	for _, services := range []int{10, 10_000, 40_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := newRig(b, services)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.change(5, 1-i%2)
			}
		})
	}
}
