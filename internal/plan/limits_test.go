// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
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

func TestParsePrefix(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"192.0.2.0/24", "192.0.2.0/24"},
		{" 10.1.2.3/16 ", "10.1.0.0/16"},
		{"010.000.0.0/8", "10.0.0.0/8"},
		{"::ffff:a00:0/104", "10.0.0.0/8"},
		{"::ffff:10.0.0.0/104", "10.0.0.0/8"},
		{"::ffff:10.0.0.1/128", "10.0.0.1/32"},
		{"::ffff:0:0/96", "0.0.0.0/0"},
		{"64:ff9b::192.0.2.0/96", "64:ff9b::/96"},
		{"64:ff9b::192.0.2.33/128", "64:ff9b::c000:221/128"},
		{"::192.0.2.0/120", "::c000:200/120"},
		{"2001:DB8::1/32", "2001:db8::/32"},
		{"::/0", "::/0"},
		{"::ffff:10.0.0.0/8", ""}, {"::ffff:a00:0/95", ""}, {"::ffff:10.0.0.0/129", ""},
		{"10.0.0.0/33", ""}, {"10.0.0.0", ""}, {"10.0.0.0/-1", ""}, {"10.0.0.0/x", ""}, {"64:ff9b::192.0.2.0/129", ""},
		{"", ""}, {"/", ""}, {"fe80::1%eth0/64", ""},
	} {
		got, err := parsePrefix(c.in)
		if err == nil && got.String() != c.want || (err == nil) != (c.want != "") {
			t.Errorf("parsePrefix(%q) = %v, %v; want %q", c.in, got, err, c.want)
		}
	}
}

// FuzzParsePrefix compares spellings of one network: all that can be read mean the same.
func FuzzParsePrefix(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, uint8(8))
	f.Add(netip.MustParseAddr("64:ff9b::192.0.2.0").AsSlice(), uint8(96))
	f.Add(netip.MustParseAddr("::ffff:10.0.0.0").AsSlice(), uint8(104))
	f.Fuzz(func(t *testing.T, raw []byte, bits uint8) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		want, forms := netip.PrefixFrom(a, int(bits)).Masked(), []string{fmt.Sprintf("%v/%d", a, bits)}
		if a.Is4() {
			forms = append(forms, fmt.Sprintf("::ffff:%v/%d", a, int(bits)+96), fmt.Sprintf("::ffff:%x:%x/%d", raw[:2], raw[2:], int(bits)+96))
		} else {
			hex := raw[:12]
			forms = append(forms, fmt.Sprintf("%x:%x:%x:%x:%x:%x:%d.%d.%d.%d/%d", hex[:2], hex[2:4], hex[4:6], hex[6:8], hex[8:10], hex[10:], raw[12], raw[13], raw[14], raw[15], bits))
		}
		if a.Is4In6() {
			want = netip.PrefixFrom(a.Unmap(), int(bits)-96).Masked()
		}
		for _, form := range forms {
			if got, err := parsePrefix(form); (err == nil) != want.IsValid() || err == nil && got != want {
				t.Errorf("parsePrefix(%q) = %v, %v; want %v", form, got, err, want)
			}
		}
	})
}

func TestOfTwoReportsOfAnEndpointTheMoreCredibleCounts(t *testing.T) {
	kinds := []endpoint{ // the most credible first
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
				e := endpoints{{family: state.IPv4}: slices.Clone(order)}
				if got := e.of(state.IPv4, portName{}); len(got) != 1 || got[0] != better {
					t.Errorf("of %+v: got %+v, want %+v", order, got, better)
				}
			}
		}
	}
}
