// SPDX-License-Identifier: Apache-2.0

// Package bench measures what the house as a whole costs on a real kernel: the
// start of a daemon with a large cluster, against the least that the same rows
// could cost, and one endpoint's change. It holds tests and benchmarks only; the
// tests count operations, which no slow machine can falsify, the benchmarks time.
package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// nodes is how many nodes the endpoints are spread over.
const nodes = 100

// size is how large a cluster is.
type size struct {
	name                string
	services, endpoints int
	families            []corev1.IPFamily
}

func ipv4(services int) size {
	return size{fmt.Sprintf("%dx5", services), services, 5, []corev1.IPFamily{corev1.IPv4Protocol}}
}

func dualStack(services int) size {
	s := ipv4(services)
	s.name += "-dual-stack"
	s.families = append(s.families, corev1.IPv6Protocol)
	return s
}

// objects are the Services and EndpointSlices of a cluster.
func (s size) objects() []plan.Objects {
	list := make([]plan.Objects, s.services)
	for n := range list {
		list[n] = s.service(n, 0)
	}
	return list
}

// service is the Service n, with endpoints from a first one on.
func (s size) service(n, first int) plan.Objects {
	meta := metav1.ObjectMeta{
		Namespace:         fmt.Sprintf("team-%02d", n%50),
		Name:              fmt.Sprintf("service-%05d", n),
		CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000+int64(n), 0)),
	}
	o := plan.Objects{Service: &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		IPFamilies: s.families,
		Ports:      []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}}
	for _, f := range s.families {
		spec := &o.Service.Spec
		spec.ClusterIPs = append(spec.ClusterIPs, address(f, 96, n).String())
		spec.ClusterIP = spec.ClusterIPs[0]
		o.Slices = append(o.Slices, s.slice(meta, f, n, first))
	}
	return o
}

func (s size) slice(of metav1.ObjectMeta, f corev1.IPFamily, n, first int) *discoveryv1.EndpointSlice {
	name, port, protocol, ready := "http", int32(8080), corev1.ProtocolTCP, true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: of.Namespace,
			Name:      of.Name + "-" + string(f),
			Labels:    map[string]string{discoveryv1.LabelServiceName: of.Name},
		},
		AddressType: discoveryv1.AddressType(f),
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for i := first; i < first+s.endpoints; i++ {
		pod := n*16 + i
		on := nodeName(pod % nodes)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{address(f, 128, pod).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
			NodeName:   &on,
		})
	}
	return slice
}

func nodeName(n int) string { return fmt.Sprintf("node-%02d", n) }

// address is the n-th address of a network of ours.
func address(f corev1.IPFamily, network byte, n int) netip.Addr {
	last := binary.BigEndian.AppendUint32(nil, uint32(n))
	if f == corev1.IPv4Protocol {
		return netip.AddrFrom4([4]byte{10, network + last[1], last[2], last[3]})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: network, 12: last[0], 13: last[1], 14: last[2], 15: last[3]})
}

// setting is the daemon's configuration and node. No audit comes by itself
// while a test counts.
func setting() (config.Config, plan.Node) {
	c := config.Default()
	c.SyncPeriod = time.Hour
	return c, plan.Node{Name: nodeName(0), Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
}

// wish is what the kernel holds when all objects are served.
func wish(objects []plan.Objects) state.State {
	c, n := setting()
	d := desired.New()
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	for _, o := range objects {
		owner := desired.Owner{Namespace: o.Service.Namespace, Name: o.Service.Name}
		d.Upsert(owner, o.Service.CreationTimestamp.Time, plan.Service(o, n, c))
	}
	return d.State()
}

// memory is a source that tells of objects at once, and of one more when it is
// asked to.
type memory struct {
	objects []plan.Objects
	more    <-chan plan.Objects
}

func (m memory) Run(ctx context.Context, sink cluster.Sink) error {
	for _, o := range m.objects {
		tell(sink, o)
	}
	sink.Told(cluster.Complete)
	select {
	case o := <-m.more:
		tell(sink, o)
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

func tell(sink cluster.Sink, o plan.Objects) {
	sink.Service(types.NamespacedName{Namespace: o.Service.Namespace, Name: o.Service.Name}, o.Service, o.Slices)
}

// still is a node whose addresses never change.
type still []netip.Addr

func (s still) Addresses(context.Context) ([]netip.Addr, error) { return s, nil }

func (still) Gateways(context.Context) ([]netip.Addr, error) { return nil, nil }

func (s still) Watch(ctx context.Context, _ func(node.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}
