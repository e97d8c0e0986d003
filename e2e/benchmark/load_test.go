// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

func TestEachChangeOfALoadCanBeSeenAtItsEnd(t *testing.T) {
	for _, size := range []large.Size{large.IPv4(1000, 10), large.IPv4(40000, 2), large.IPv4(100, 1000), large.IPv4(50, 3)} {
		list := schedule(size, 6000)
		if size.Services > 50 && len(list) != 6000 {
			t.Errorf("%v: %d changes", size, len(list))
		}
		last := map[int]int{} // the last change of each Service
		for i, c := range list {
			k, ok := last[c.service]
			old := list[k].slice
			if !ok {
				old = lastSlice(size, c.service)
			}
			was, is := addresses(old.Endpoints), addresses(c.slice.Endpoints)
			if d := len(is) - len(was); d != 1 && d != -1 || (d == 1) != c.serves {
				t.Fatalf("%v: change %d makes %d endpoints of %d, and serves is %v", size, i, len(is), len(was), c.serves)
			}
			if slices.Contains(is, c.at) != c.serves || slices.Contains(was, c.at) == c.serves {
				t.Fatalf("%v: change %d of %v does not do what it says", size, i, c.at)
			}
			last[c.service] = i
		}
		for i, c := range list {
			if at := addresses(list[last[c.service]].slice.Endpoints); slices.Contains(at, c.at) != c.serves {
				t.Fatalf("%v: change %d is undone by a later one", size, i)
			}
		}
	}
}

func addresses(list []discoveryv1.Endpoint) []netip.AddrPort {
	var all []netip.AddrPort
	for _, e := range list {
		all = append(all, netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), large.TargetPort))
	}
	return all
}

func TestALoadIsSummarized(t *testing.T) {
	begin := time.Unix(1_800_000_000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	l := loadOf([]change{{sent: at(0), answered: at(10), seen: at(30)}, {sent: at(500), answered: at(1000), seen: at(900)}})
	want := Load{
		Changes: 2, Written: 2, Took: Summary{P50: 0.03, P90: 0.4, P99: 0.4, Most: 0.4},
		Answered: Summary{P50: 0.01, P90: 0.5, P99: 0.5, Most: 0.5},
	}
	if l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
}
