// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// dice draws objects from few values, good and bad, so that they meet.
type dice struct{ *rand.Rand }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// maybe returns a pointer to one of the values, or nil.
func maybe[T any](d dice, from ...T) *T {
	if d.IntN(4) == 0 {
		return nil
	}
	v := pick(d, from...)
	return &v
}

func some[T any](d dice, most int, draw func() T) []T {
	var list []T
	for range d.IntN(most + 1) {
		list = append(list, draw())
	}
	return list
}

// mostly returns good in four of five cases.
func mostly[T any](d dice, good, bad T) T {
	if d.IntN(5) > 0 {
		return good
	}
	return bad
}

func (d dice) address() string {
	good := pick(d, "10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1", "fd00::1", "2001:db8::1")
	return mostly(d, good, d.oddAddress())
}

func (d dice) oddAddress() string {
	return pick(d, "010.0.0.3", "::ffff:10.0.0.1", "127.0.0.1", "0.0.0.0", "::", "fe80::1", "fe80::1%eth0", "ff02::1", "None", "", "x")
}

func (d dice) port() int32 {
	return mostly(d, pick[int32](d, 80, 81, 30080), pick[int32](d, 1, 65535, 0, -1, 65536, 1<<31-1))
}

func (d dice) protocol() corev1.Protocol {
	return pick[corev1.Protocol](d, "TCP", "UDP", "SCTP", "", "tcp")
}

func (d dice) sourceRange() string {
	good := pick(d, "192.0.2.0/24", "10.0.0.0/8", " 2001:db8::/32 ", "::ffff:a00:0/104", "64:ff9b::192.0.2.0/96", "0.0.0.0/0")
	return mostly(d, good, pick(d, "::ffff:10.0.0.0/8", "10.0.0.0/33", "10.0.0.0", "", "x"))
}

func (d dice) name() string { return mostly(d, "http", pick(d, "", "\"\n\x00")) }

func (d dice) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}
	s.Spec.Type = pick[corev1.ServiceType](d, "", "ClusterIP", "NodePort", "NodePort", "LoadBalancer")
	s.Spec.ClusterIP = "10.0.0.9"
	s.Spec.ClusterIPs = mostly(d, []string{"10.0.0.9", "fd00::9"}, some(d, 3, d.address))
	s.Spec.IPFamilies = mostly(d, []corev1.IPFamily{"IPv4", "IPv6"},
		some(d, 3, func() corev1.IPFamily { return pick[corev1.IPFamily](d, "IPv4", "IPv6", "") }))
	s.Spec.Ports = some(d, 4, func() corev1.ServicePort {
		return corev1.ServicePort{Name: d.name(), Protocol: d.protocol(), Port: d.port(), NodePort: d.port()}
	})
	s.Spec.ExternalIPs = some(d, 2, d.address)
	s.Spec.LoadBalancerSourceRanges = some(d, 2, d.sourceRange)
	for _, ip := range some(d, 2, d.address) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	s.Spec.SessionAffinity = pick[corev1.ServiceAffinity](d, "", "None", "ClientIP", "ClientIP", "x")
	s.Spec.SessionAffinityConfig = maybe(d, corev1.SessionAffinityConfig{
		ClientIP: maybe(d, corev1.ClientIPConfig{TimeoutSeconds: maybe[int32](d, 1, 60, 86400, 0, -1, 86401)}),
	})
	return s
}

func (d dice) slice(i int) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: fmt.Sprint(i),
			Labels: map[string]string{discoveryv1.LabelServiceName: mostly(d, "web", "shop")},
		},
		AddressType: mostly(d, pick[discoveryv1.AddressType](d, "IPv4", "IPv6"), "FQDN"),
		Ports: some(d, 3, func() discoveryv1.EndpointPort {
			return discoveryv1.EndpointPort{Name: new(d.name()), Protocol: maybe(d, d.protocol()), Port: maybe(d, d.port())}
		}),
		Endpoints: some(d, 5, func() discoveryv1.Endpoint {
			return discoveryv1.Endpoint{
				Addresses: append(mostly(d, []string{d.address()}, nil), some(d, 1, d.address)...),
				NodeName:  maybe(d, "n1", "n2", ""),
				Conditions: discoveryv1.EndpointConditions{
					Ready: maybe(d, true, false), Serving: maybe(d, true, false), Terminating: maybe(d, true, false),
				},
			}
		}),
	}
}

func TestRandomObjectsKeepTheInvariants(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(7, 8))}
	served := 0
	for range 20_000 {
		o := plan.Objects{Service: d.service()}
		for i := range d.IntN(4) {
			o.Slices = append(o.Slices, mostly(d, d.slice(i), nil))
		}
		var n plan.Node
		n.Name = pick(d, "n1", "")
		for _, a := range some(d, 4, d.address) {
			if parsed, err := netip.ParseAddr(a); err == nil {
				n.Addresses = append(n.Addresses, parsed)
			}
		}
		f := plan.Service(o, n, config.Default())
		checkInvariants(t, f)
		if len(f.RealServers) > 0 {
			served++
		}
		if t.Failed() {
			t.Fatalf("objects: %+v\n%s", o, text(f))
		}
	}
	if served < 500 {
		t.Errorf("only %d Services had an endpoint: the dice are bad", served)
	}
}
