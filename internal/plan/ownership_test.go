// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestNothingIsOursInExcludedNetworks(t *testing.T) {
	o := plan.Ownership{Exclude: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:e::/64")}}
	for text, ours := range map[string]bool{
		"198.51.100.9": false, "198.51.101.9": true, "2001:db8:e::9": false, "2001:db8:f::9": true,
	} {
		a := netip.MustParseAddr(text)
		k := state.VirtualServerKey{Address: netip.AddrPortFrom(a, 80), Protocol: state.TCP}
		for _, local := range []bool{false, true} {
			if got := slices.Collect(o.Proofs(k, local)); (len(got) > 0) != ours {
				t.Errorf("%v, on an address of the node %v: may be ours by %v", k, local, got)
			}
		}
		if got := slices.Collect(o.AddressProofs(state.Address{Addr: a})); (len(got) > 0) != ours {
			t.Errorf("%v may be ours by %v", a, got)
		}
	}
}

func TestANodePortProvesNothingElsewhereThanOnTheNode(t *testing.T) {
	k := state.VirtualServerKey{Address: netip.MustParseAddrPort("192.0.2.1:30080"), Protocol: state.TCP}
	port := state.SetEntry{Set: "KUBE-NODE-PORT-TCP", Port: 30080}
	for _, local := range []bool{false, true} {
		found := false
		for e := range (plan.Ownership{}).Proofs(k, local) {
			found = found || e == port
		}
		if found != local {
			t.Errorf("on an address of the node %v: the port is a proof: %v", local, found)
		}
	}
}
