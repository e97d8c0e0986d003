// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// FuzzService plans any objects: none may cause a panic, or a row that the kernel or other packages cannot take.
func FuzzService(f *testing.F) {
	type objects struct {
		Service *corev1.Service
		Slices  []*discoveryv1.EndpointSlice
		Present map[netip.Addr]plan.Presence
	}
	for _, s := range scripts(f) {
		seed, err := json.Marshal(objects(s.objects))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	node := plan.Node{Name: "a", Addresses: []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), {},
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1%eth0"),
	}}
	c := config.Default()
	f.Fuzz(func(t *testing.T, data []byte) {
		var in objects
		if json.Unmarshal(data, &in) != nil {
			return
		}
		checkInvariants(t, plan.Service(plan.Objects(in), node, c))
	})
}
