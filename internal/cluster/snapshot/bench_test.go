// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// town returns a cluster of so many Services, each with so many endpoints, as an API server sends them.
func town(services, endpoints int) content {
	c := content{place: place("node-1")}
	for i := range services {
		c.services = append(c.services, dwelling(i, endpoints).pack())
	}
	return c
}

func dwelling(i, endpoints int) objects {
	name, uid := fmt.Sprintf("service-%05d", i), fmt.Sprintf("6f1c%04x-7d3e-4a55-9b1f-%012x", i, i*7919)
	ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250)
	o := objects{service: &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("team-%03d", i/100), Name: name, UID: types.UID(uid), ResourceVersion: fmt.Sprint(1000 + i),
			CreationTimestamp: metav1.Unix(1700000000+int64(i), 0), Labels: map[string]string{"app.kubernetes.io/name": name},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, SessionAffinity: corev1.ServiceAffinityNone,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.service.Namespace, Name: name + "-x7k2p", UID: types.UID(uid), ResourceVersion: fmt.Sprint(9000 + i),
			CreationTimestamp: metav1.Unix(1700000000+int64(i), 0),
			Labels:            map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for n := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", (i*endpoints+n)/250%250, (i*endpoints+n)%250)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("node-%04d", (i*31+n*17)%1000)), Zone: new(fmt.Sprintf("zone-%d", n%3)),
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprintf("zone-%d", n%3)}}},
		})
	}
	o.slices = []*discoveryv1.EndpointSlice{slice}
	return o
}

const townSize = 10_000

func BenchmarkWrite(b *testing.B) {
	c, file := town(townSize, 10), filepath.Join(b.TempDir(), "objects")
	var h Header
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if h, err = write(file, Header{Node: "node-1", Written: time.Unix(1, 0)}, defaultMaxBytes, c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(h.size())/townSize, "bytes/Service")
	b.ReportMetric(float64(h.Plain)/townSize, "plain-bytes/Service")
}

func BenchmarkRead(b *testing.B) {
	file := filepath.Join(b.TempDir(), "objects")
	if _, err := write(file, Header{Node: "node-1"}, defaultMaxBytes, town(townSize, 10)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := read(file, "node-1", defaultMaxBytes); err != nil {
			b.Fatal(err)
		}
	}
}

// One Service changes and all are copied: how long Live waits for that.
func BenchmarkCopyOfWhatWasTold(b *testing.B) {
	r := newRelay(&diary{}, func() {})
	for _, o := range town(townSize, 1).services {
		r.Service(o.Service.Key(), o)
	}
	r.Listed(cluster.Complete)
	b.ReportAllocs()
	for b.Loop() {
		r.current(0)
	}
}
