// SPDX-License-Identifier: Apache-2.0

package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// triggered is a slice for one port, with the annotation of when its change was triggered.
func triggered(port int32, at string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := behind(viaTCP, port, endpoints...)
	s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
	return s
}

func TestWhatOfAServicesObjectsChanged(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const before, first, later = "2026-01-02T03:04:05Z", "2026-01-02T03:05:00.5Z", "2026-01-02T03:06:00Z"
	at := func(texts ...string) []reconcile.Trigger {
		var list []reconcile.Trigger
		for _, text := range texts {
			parsed, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, reconcile.Trigger{Family: state.IPv4, At: parsed})
		}
		return list
	}
	web, changedWeb, other := shop(viaTCP, 80), shop(viaTCP, 81), triggered(443, later, "10.244.1.9")
	a := triggered(80, first, "10.244.1.1")
	annotated := triggered(80, later, "10.244.1.1")
	changed := triggered(80, later, "10.244.1.2")
	six := triggered(80, later, "fd00::1")
	six.AddressType = discoveryv1.AddressTypeIPv6
	named := triggered(80, later, "host")
	named.AddressType = discoveryv1.AddressTypeFQDN
	plain := behind(viaTCP, 80, "10.244.1.1")
	for _, c := range []struct {
		name        string
		before, now *cluster.Objects
		want        reconcile.Origin
	}{
		{"new", nil, cluster.Pack(web, a, other), reconcile.Origin{Services: 1, Slices: 2, Triggers: at(later, first)}},
		{"the Service alone", cluster.Pack(web, a), cluster.Pack(changedWeb, a), reconcile.Origin{Services: 1}},
		{"a slice", cluster.Pack(web, a, other), cluster.Pack(web, changed, other), reconcile.Origin{Slices: 1, Triggers: at(later)}},
		{"nothing that is used", cluster.Pack(web, a), cluster.Pack(web, annotated), reconcile.Origin{Slices: 1}},
		{"a slice less", cluster.Pack(web, a, other), cluster.Pack(web, other), reconcile.Origin{Slices: 1, Anew: true}},
		{"deleted", cluster.Pack(web, a, other), nil, reconcile.Origin{Services: 1, Slices: 2, Anew: true}},
		{"without a time", cluster.Pack(web), cluster.Pack(web, plain), reconcile.Origin{Slices: 1}},
		{"with what is no time", cluster.Pack(web), cluster.Pack(web, triggered(80, "today")), reconcile.Origin{Slices: 1}},
		{"from before this program", cluster.Pack(web), cluster.Pack(web, triggered(80, before)), reconcile.Origin{Slices: 1}},
		{"of IPv6", cluster.Pack(web), cluster.Pack(web, six),
			reconcile.Origin{Slices: 1, Triggers: []reconcile.Trigger{{Family: state.IPv6, At: at(later)[0].At}}}},
		{"of no family", cluster.Pack(web), cluster.Pack(web, named), reconcile.Origin{Slices: 1}},
	} {
		got := originOf(c.before, c.now, began)
		got.Queued = time.Time{}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// arrivals is an observer of the triggers of what arrived in the kernel.
type arrivals struct{ times []time.Duration }

func (*arrivals) Received(reconcile.Change) {}
func (*arrivals) Acted(reconcile.Act)       {}
func (a *arrivals) Settled(b reconcile.Balance) {
	for _, p := range b.Programmed {
		for _, t := range p.Origin.Triggers {
			a.times = append(a.times, b.At.Sub(t.At))
		}
	}
}

func TestATriggerIsToldOnceItsEndpointIsInTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &arrivals{}
		var place cluster.Place
		h := start(t, mem.New(), func(d *Daemon) {
			d.Observer = a
			d.Placed = func(p cluster.Place) { place = p }
		})
		h.call(synced)
		time.Sleep(time.Second)
		changed := time.Now()
		time.Sleep(3 * time.Second)
		h.offer(shop(viaTCP, 80), triggered(80, changed.Format(time.RFC3339Nano), "10.244.1.1"))
		h.offer(shop(viaTCP, 80, 81), triggered(80, changed.Format(time.RFC3339Nano), "10.244.1.1"))
		if len(a.times) != 1 || a.times[0] != 3*time.Second {
			t.Errorf("took %v, want once 3s", a.times)
		}
		node := &corev1.Node{}
		h.call(func(s cluster.Sink) { s.Place(cluster.Place{Node: node}) })
		if place.Node != node {
			t.Errorf("Placed got %v", place.Node)
		}
	})
}
