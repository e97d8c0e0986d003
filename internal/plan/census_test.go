// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// sliceOf returns an EndpointSlice with these addresses. A star puts one on a node.
func sliceOf(addresses ...string) *discoveryv1.EndpointSlice {
	s, node := &discoveryv1.EndpointSlice{}, "n1"
	for _, a := range addresses {
		e := discoveryv1.Endpoint{Addresses: []string{a}}
		if a[len(a)-1] == '*' {
			e.Addresses[0], e.NodeName = a[:len(a)-1], &node
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func those(addresses ...string) []netip.Addr {
	var list []netip.Addr
	for _, a := range addresses {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func TestWhoComesToAnAddressAndLeavesItIsCounted(t *testing.T) {
	c := plan.NewCensus[string]()
	type batch = []*discoveryv1.EndpointSlice
	for _, step := range []struct {
		name            string
		left, came      batch
		arrived, vacant []netip.Addr
	}{
		{"the first", nil, batch{sliceOf("10.0.0.1*", "10.0.0.2*", "fd00::1", "no address")}, those("10.0.0.1", "10.0.0.2", "fd00::1"), nil},
		{"once more at one of them", nil, batch{sliceOf("10.0.0.1*")}, nil, nil},
		{"one of a slice is another", batch{sliceOf("10.0.0.1*", "10.0.0.2*", "fd00::1")}, batch{sliceOf("10.0.0.1*", "10.0.0.3*", "fd00::1")}, those("10.0.0.3"), those("10.0.0.2")},
		{"one of two leaves", batch{sliceOf("10.0.0.1*")}, nil, nil, nil},
		{"one is known to be on a node", batch{sliceOf("fd00::1")}, batch{sliceOf("fd00::1*")}, those("fd00::1"), nil},
		{"the last leave", batch{sliceOf("10.0.0.1*", "10.0.0.3*", "fd00::1*")}, nil, nil, those("10.0.0.1", "10.0.0.3", "fd00::1")},
	} {
		arrived, vacant := c.Move(step.left, step.came)
		if !slices.Equal(arrived, step.arrived) || !slices.Equal(vacant, step.vacant) {
			t.Errorf("%s: arrived %v, want %v; vacant %v, want %v", step.name, arrived, step.arrived, vacant, step.vacant)
		}
	}
}

func TestWhoWantsAnAddressIsKnownAsLongAsTheServiceDoes(t *testing.T) {
	c := plan.NewCensus[string]()
	wants := func(balanced string, externals ...string) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{ExternalIPs: externals}}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: balanced}}
		return s
	}
	one, other := wants("10.0.0.1", "10.0.0.2", "010.0.0.2"), wants("10.0.0.2")
	c.Want("one", nil, one)
	c.Want("other", nil, other)
	if got := c.Wanting(those("10.0.0.2", "10.0.0.1")...); !slices.Equal(got, []string{"one", "other"}) {
		t.Errorf("wanting: %v", got)
	}
	c.Want("one", one, wants("10.0.0.1"))
	if got := c.Wanting(those("10.0.0.2")...); !slices.Equal(got, []string{"other"}) {
		t.Errorf("when one wants it no more: %v", got)
	}
	c.Want("other", other, nil)
	if got := c.Wanting(those("10.0.0.2")...); len(got) != 0 {
		t.Errorf("when no Service wants it: %v", got)
	}
	c.Move(nil, []*discoveryv1.EndpointSlice{sliceOf("10.0.0.1*", "10.0.0.9*")})
	if got := c.Of(one); len(got) != 1 || got[netip.MustParseAddr("10.0.0.1")] != plan.Located {
		t.Errorf("present: %v", got)
	}
	if got := c.Of(other); got != nil {
		t.Errorf("present at vacant addresses: %v", got)
	}
}

// After any changes the census is that of the existing slices.
func TestACensusAfterManyChangesIsThatOfTheLastSlices(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	c := plan.NewCensus[string]()
	there := map[int]*discoveryv1.EndpointSlice{}
	all := []string{"10.0.0.1", "10.0.0.1*", "10.0.0.2", "10.0.0.2*", "fd00::1", "fd00::1*"}
	asks := &corev1.Service{Spec: corev1.ServiceSpec{ExternalIPs: []string{"10.0.0.1", "10.0.0.2", "fd00::1"}}}
	for range 2000 {
		n := r.IntN(5)
		var left, came []*discoveryv1.EndpointSlice
		if old := there[n]; old != nil {
			left = append(left, old)
			delete(there, n)
		}
		if r.IntN(3) > 0 {
			there[n] = sliceOf(all[r.IntN(len(all))], all[r.IntN(len(all))])
			came = append(came, there[n])
		}
		before := c.Of(asks)
		arrived, vacant := c.Move(left, came)
		fresh := plan.NewCensus[string]()
		for _, s := range there {
			fresh.Move(nil, []*discoveryv1.EndpointSlice{s})
		}
		now := fresh.Of(asks)
		for _, a := range those(asks.Spec.ExternalIPs...) {
			if got := c.Of(asks)[a]; got != now[a] {
				t.Fatalf("at %v: %v, want %v", a, got, now[a])
			}
			if is := slices.Contains(arrived, a); is != (now[a] != before[a] && now[a] != plan.Vacant) {
				t.Fatalf("at %v, %v before and %v now: arrived %v", a, before[a], now[a], is)
			}
			if is := slices.Contains(vacant, a); is != (now[a] != before[a] && now[a] == plan.Vacant) {
				t.Fatalf("at %v, %v before and %v now: vacant %v", a, before[a], now[a], is)
			}
		}
	}
}
