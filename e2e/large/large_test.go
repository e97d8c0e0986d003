// SPDX-License-Identifier: Apache-2.0

package large

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestASizeIsReadAsItIsWritten(t *testing.T) {
	for _, text := range []string{"100x10", "40000x2", "100x1000", "1x1"} {
		s, err := ParseSize(text)
		if err != nil || s.String() != text {
			t.Errorf("%s is read as %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "x", "100", "0x1", "1x0", "-1x1", "1x1x1", "ax1"} {
		if s, err := ParseSize(text); err == nil {
			t.Errorf("%q is read as %v, want an error", text, s)
		}
	}
}

func TestNoTwoServicesShareAnAddress(t *testing.T) {
	for _, s := range []Size{IPv4(40000, 2), IPv4(100, 1000), DualStack(3, 2)} {
		seen := map[string]bool{}
		take := func(text string) {
			if _, err := netip.ParseAddr(text); err != nil || seen[text] {
				t.Fatalf("%v: %s is there twice, or is none: %v", s, text, err)
			}
			seen[text] = true
		}
		for _, o := range s.Objects() {
			for _, ip := range o.Service.Spec.ClusterIPs {
				take(ip)
			}
			for _, slice := range o.Slices {
				if len(slice.Endpoints) > 100 {
					t.Fatalf("%v: a slice has %d endpoints", s, len(slice.Endpoints))
				}
				for _, e := range slice.Endpoints {
					take(e.Addresses[0])
				}
			}
		}
		if want := s.Services * (s.Endpoints + 1) * len(s.Families); len(seen) != want {
			t.Errorf("%v: %d addresses, want %d", s, len(seen), want)
		}
	}
}

func TestTheNetworksHoldTheirAddresses(t *testing.T) {
	s, services := IPv4(40000, 10), netip.MustParsePrefix("10.96.0.0/16")
	for _, n := range []int{0, s.Services - 1} {
		if a := ServiceAddress(corev1.IPv4Protocol, n); !services.Contains(a) || !services.Contains(a.Next()) {
			t.Errorf("Service %d has %v, which is not in %v or its last address", n, a, services)
		}
		if a := netip.MustParseAddr(s.Endpoint(corev1.IPv4Protocol, n, s.Endpoints+Spare-1).Addresses[0]); !PodNetwork().Contains(a) {
			t.Errorf("an endpoint of Service %d has %v, which is not in %v", n, a, PodNetwork())
		}
	}
}
