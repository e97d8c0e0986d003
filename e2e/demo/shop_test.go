// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestTheManifestsOfTheDemoAreUnderstood(t *testing.T) {
	got, err := readShop("../../manifests/demo")
	if err != nil {
		t.Fatal(err)
	}
	want := shop{
		"shop/web": {
			protocol: state.TCP, port: 80, nodePort: 30080, vips: vips("10.96.0.80", "fd00:10:96::80"),
			endpoints: doors("10.244.1.10:8080", "10.244.1.11:8080", "10.244.2.10:8080",
				"[fd00:10:244:1::10]:8080", "[fd00:10:244:1::11]:8080", "[fd00:10:244:2::10]:8080"),
		},
		"shop/dns": {
			protocol: state.UDP, port: 53, nodePort: 30053, vips: vips("10.96.0.53", "fd00:10:96::53"),
			endpoints: doors("10.244.1.10:5353", "10.244.2.10:5353", "[fd00:10:244:1::10]:5353", "[fd00:10:244:2::10]:5353"),
		},
		"shop/api": {
			protocol: state.TCP, port: 80, vips: vips("10.96.0.90", "fd00:10:96::90"),
			endpoints: doors("10.244.1.11:8080", "10.244.2.10:8080", "[fd00:10:244:1::11]:8080", "[fd00:10:244:2::10]:8080"),
		},
	}
	for name, svc := range want {
		if !reflect.DeepEqual(got[name], svc) {
			t.Errorf("%s is %+v, want %+v", name, got[name], svc)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %d Services, want %d", len(got), len(want))
	}
}

func TestTheChangeReplacesOneEndpointByAnother(t *testing.T) {
	got, err := readShop("../../manifests/demo/changed")
	if err != nil {
		t.Fatal(err)
	}
	want := doors("10.244.1.10:8080", "10.244.1.13:8080", "10.244.2.10:8080",
		"[fd00:10:244:1::10]:8080", "[fd00:10:244:1::13]:8080", "[fd00:10:244:2::10]:8080")
	if web := got["shop/web"]; web == nil || !reflect.DeepEqual(web.endpoints, want) {
		t.Errorf("shop/web is %+v, want endpoints %v", web, want)
	}
}

func TestManifestsThatAreNoneAreRefused(t *testing.T) {
	for _, text := range []string{
		"kind: [",
		"kind: Service\nspec: {ports: []}",
		"kind: Service\nspec: {ports: [{port: 80}], clusterIPs: [nowhere]}",
		"kind: Service\nspec: {ports: [{port: 80, protocol: ICMP}]}",
		"kind: Service\nspec: {prots: []}",
		"kind: EndpointSlice\nports: []",
		"kind: List\nitems: [{kind: EndpointSlice, ports: [{port: 80}], endpoints: [{addresses: [x]}]}]",
	} {
		if err := (shop{}).read([]byte(text)); err == nil {
			t.Errorf("no error for:\n%s", text)
		}
	}
	if _, err := readShop(t.TempDir()); err == nil {
		t.Error("an empty folder is a shop")
	}
}

func vips(four, six string) map[state.Family]netip.Addr {
	return map[state.Family]netip.Addr{state.IPv4: netip.MustParseAddr(four), state.IPv6: netip.MustParseAddr(six)}
}

func doors(texts ...string) (list []netip.AddrPort) {
	for _, s := range texts {
		list = append(list, netip.MustParseAddrPort(s))
	}
	return list
}
