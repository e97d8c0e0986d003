// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// What the tests of this package share: a sink that records what is reported, a source whose calls a test makes, and
// short names for objects.

// diary is a sink. A call that comes while another is at work is a fault.
type diary struct {
	busy  sync.Mutex
	mutex sync.Mutex
	lines []string
}

func (d *diary) write(line string) {
	if !d.busy.TryLock() {
		line += " while busy with another call"
	} else {
		defer d.busy.Unlock()
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) Service(key types.NamespacedName, o *cluster.Objects) {
	if o == nil {
		d.write(key.Name + " gone")
		return
	}
	s, slices := o.Unpack()
	line := key.Name + " " + s.Spec.ClusterIP
	for _, slice := range slices {
		line += " " + slice.Name
	}
	d.write(line)
}

func (d *diary) Place(p cluster.Place) {
	name := "nowhere"
	if p.Node != nil {
		name = p.Node.Name
	}
	for _, o := range p.Others {
		name += "," + o.Name
	}
	d.write(fmt.Sprint("place ", name, " ", p.ServiceCIDRs))
}

func (d *diary) Listed(e cluster.Extent) {
	d.write(map[cluster.Extent]string{cluster.Restored: "restored", cluster.Complete: "complete"}[e])
}

// mustSay checks the lines since the last time.
func (d *diary) mustSay(t *testing.T, want ...string) {
	t.Helper()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if diff := cmp.Diff(want, d.lines); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
	d.lines = nil
}

// script is a source whose calls a test makes.
type script struct {
	calls chan func(cluster.Sink)
	fail  chan error
}

func newScript() script { return script{make(chan func(cluster.Sink)), make(chan error)} }

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

// says reads a call from a line of a diary.
func says(line string) func(cluster.Sink) {
	words := strings.Fields(line)
	switch {
	case line == "complete":
		return func(sink cluster.Sink) { sink.Listed(cluster.Complete) }
	case line == "restored":
		return func(sink cluster.Sink) { sink.Listed(cluster.Restored) }
	case words[0] == "place":
		return func(sink cluster.Sink) { sink.Place(place(words[1])) }
	case words[1] == "gone":
		return func(sink cluster.Sink) { sink.Service(named(words[0]), nil) }
	}
	o := shop(words[0], words[1], words[2:]...)
	return func(sink cluster.Sink) { sink.Service(o.key(), o.pack()) }
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

func place(name string) cluster.Place {
	return cluster.Place{
		Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{
			PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64"},
		}},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")},
	}
}

const somewhere = "place node-1 [10.96.0.0/16 fd00:96::/112]"

// objects are those of one Service, as the API has them.
type objects struct {
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

func (o objects) key() types.NamespacedName {
	return types.NamespacedName{Namespace: o.service.Namespace, Name: o.service.Name}
}

func (o objects) pack() *cluster.Objects { return cluster.Pack(o.service, o.slices...) }

// packAll returns the objects of several Services.
func packAll(all ...objects) []*cluster.Objects {
	var list []*cluster.Objects
	for _, o := range all {
		list = append(list, o.pack())
	}
	return list
}

// shop is a Service and its EndpointSlices.
func shop(name, ip string, slices ...string) objects {
	o := objects{service: &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}}
	for i, s := range slices {
		o.slices = append(o.slices, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: s, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprint("10.244.1.", 10+i)}}},
			Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		})
	}
	return o
}
