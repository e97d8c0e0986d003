// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestAServiceWithoutEndCostsNoMoreThanItsCapacity(t *testing.T) {
	var ns notes
	b := newBuilder(service{namespace: "a", name: "b"}, vicinity{config: config.Default()}, &ns)
	b.capacity = 3
	to := []endpoint{
		{address: netip.MustParseAddrPort("10.0.0.1:80")},
		{address: netip.MustParseAddrPort("10.0.0.2:80")},
	}
	for _, ip := range []string{"10.96.0.1", "10.96.0.2", "10.96.0.3"} {
		p := port{portName: portName{protocol: state.TCP}, field: "spec.ports[0]", number: 80}
		b.serve(b.service.clusterFrontend(p, netip.MustParseAddr(ip)), chosen{cluster: to[:len(to)-len(b.servers)/2]})
	}
	if v, r, a := len(b.servers), len(b.realServers), len(b.addresses); v != 1 || r != 2 || a != 1 {
		t.Errorf("%d virtual servers, %d real servers, %d addresses; want 1, 2, 1", v, r, a)
	}
	if len(ns.list) != 2 || ns.list[0].Reason != state.TooLong {
		t.Errorf("notes: %v", ns.list)
	}
}

func TestNotesAreBounded(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: make([]corev1.ServicePort, 1000)}}
	f := Service(Objects{Service: s}, Node{}, config.Default())
	if len(f.Notes) != maxNotes+1 || f.Notes[maxNotes].Reason != state.TooLong ||
		f.Notes[maxNotes].Message != "968 more of such notes" {
		t.Errorf("%d notes, the last %v", len(f.Notes), f.Notes[len(f.Notes)-1])
	}
}

func TestComment(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ namespace, name, port, want string }{
		{"default", "web", "http", "default/web:http"},
		{"default", "web", "", "default/web"},
		{"a b", "c\"d\n", "\x00é\\", "a_b/c_d_:___"},
		{"n", long, "p", "n/" + long[:maxComment-2]},
	} {
		if got := comment(c.namespace, c.name, c.port); got != c.want {
			t.Errorf("comment(%q, %q, %q) = %q, want %q", c.namespace, c.name, c.port, got, c.want)
		}
	}
}

func TestParseAddr(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"10.180.00.001", "10.180.0.1"},
		{"192.168.099.022", "192.168.99.22"},
		{"0.0.0.0", "0.0.0.0"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:DB8:0::01", "2001:db8::1"},
		{"", ""}, {"10.0.0", ""}, {"10..0.1", ""}, {"10.0.0.0256", ""}, {"0x10.0.0.1", ""},
		{" 10.0.0.1", ""}, {"fe80::1%eth0", ""}, {"10.0.0.1/32", ""}, {"web.example", ""},
	} {
		got, err := parseAddr(c.in)
		if text := got.String(); err == nil && text != c.want || (err == nil) != (c.want != "") {
			t.Errorf("parseAddr(%q) = %v, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestWhatTellsMoreOfAnEndpointIsBelieved(t *testing.T) {
	kinds := []endpoint{ // the one to believe first
		{ready: true, serving: true, local: true},
		{ready: true, serving: true},
		{serving: true},
		{},
		{ready: true, serving: true, terminating: true},
		{serving: true, terminating: true},
		{terminating: true},
	}
	for i, better := range kinds {
		for _, worse := range kinds[i+1:] {
			for _, order := range [][]endpoint{{better, worse}, {worse, better}} {
				e := endpoints{}
				e.tell(state.IPv4, portName{}, order[0])
				e.tell(state.IPv4, portName{}, order[1])
				if got := e.of(state.IPv4, portName{}); len(got) != 1 || got[0] != better {
					t.Errorf("of %+v: got %+v, want %+v", order, got, better)
				}
			}
		}
	}
}
