// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

func someReals() []diff.Row[RealServerKey, RealServer] {
	k := VirtualServerKey{Address: netip.MustParseAddrPort("10.96.0.1:80"), Protocol: TCP}
	var rows []diff.Row[RealServerKey, RealServer]
	for i, a := range []string{"10.0.0.9:80", "10.0.0.10:80", "10.0.0.10:79", "[::ffff:10.0.0.9]:80", "[fd00::1]:80", "0.0.0.0:0", "[::]:0"} {
		v := RealServer{Weight: uint32(i), Method: ForwardMethod(i % 5), Upper: uint32(7 * i), Lower: uint32(3 * i)}
		rows = append(rows, diff.Row[RealServerKey, RealServer]{Key: RealServerKey{k, netip.MustParseAddrPort(a)}, Value: v})
	}
	return rows
}

func TestARealServerIsPackedAndUnpackedWithoutLossAndInItsOrder(t *testing.T) {
	rows := someReals()
	for _, a := range rows {
		packed := RealOf(a.Key.Address, a.Value)
		if packed.Key(a.Key.Server) != a.Key || packed.Value() != a.Value {
			t.Errorf("%v %+v became %v %+v", a.Key, a.Value, packed.Address(), packed.Value())
		}
		for _, b := range rows {
			if got, want := packed.Compare(RealOf(b.Key.Address, b.Value)), a.Key.Compare(b.Key); got != want {
				t.Errorf("%v and %v compare as %d, want %d", a.Key, b.Key, got, want)
			}
		}
	}
	if size := unsafe.Sizeof(Real{}); size != 32 {
		t.Errorf("a real server takes %d bytes, want 32", size)
	}
}

func TestRealServersAreSortedToTheirVirtualServers(t *testing.T) {
	servers := make([]diff.Row[VirtualServerKey, VirtualServer], 3)
	for i, s := range []string{"10.96.0.0:80", "10.96.0.1:80", "10.96.0.2:80"} {
		servers[i].Key = VirtualServerKey{Address: netip.MustParseAddrPort(s), Protocol: TCP}
	}
	rows := someReals()
	stray := rows[0]
	stray.Key.Server.Address = netip.MustParseAddrPort("10.96.0.1:79")
	rows = append(rows, stray)
	slices.SortFunc(rows, func(a, b diff.Row[RealServerKey, RealServer]) int { return a.Key.Compare(b.Key) })
	all := RealsOf(servers, rows)
	if len(all[0]) != 0 || len(all[2]) != 0 || len(all[1]) != len(rows)-1 {
		t.Fatalf("%d, %d and %d real servers, want all but one at the second", len(all[0]), len(all[1]), len(all[2]))
	}
	for _, r := range someReals() {
		if v, found := all[1].Find(r.Key.Address); !found || v != r.Value {
			t.Errorf("%v: found %v %+v", r.Key, found, v)
		}
	}
	if _, found := all[1].Find(netip.MustParseAddrPort("10.0.0.9:81")); found {
		t.Error("found one that is not there")
	}
}

func TestTwoListsAreWalkedTogether(t *testing.T) {
	at := func(ports ...uint16) Reals {
		var rs Reals
		for _, p := range ports {
			rs = append(rs, RealOf(netip.AddrPortFrom(netip.IPv4Unspecified(), p), RealServer{}))
		}
		return rs
	}
	var seen [][2]uint16
	for a, b := range Both(at(1, 2, 4), at(2, 3, 4, 5)) {
		var pair [2]uint16
		for i, r := range []*Real{a, b} {
			if r != nil {
				pair[i] = r.port
			}
		}
		seen = append(seen, pair)
	}
	if want := [][2]uint16{{1, 0}, {2, 2}, {0, 3}, {4, 4}, {0, 5}}; !slices.Equal(seen, want) {
		t.Errorf("walked %v, want %v", seen, want)
	}
}

func TestATableOfRealServersIsPackedByVirtualServer(t *testing.T) {
	rows := map[RealServerKey]RealServer{}
	for _, r := range someReals() {
		rows[r.Key] = r.Value
		r.Key.Server.Protocol = UDP
		rows[r.Key] = r.Value
	}
	packed := PackReals(rows)
	if len(packed) != 2 {
		t.Fatalf("%d virtual servers, want 2", len(packed))
	}
	for k, rs := range packed {
		if !slices.IsSortedFunc(rs, Real.Compare) {
			t.Errorf("%v: %v is not in order", k, rs)
		}
		for _, r := range rs {
			if v, there := rows[r.Key(k)]; !there || v != r.Value() {
				t.Errorf("%v is packed as %+v, and is %+v", r.Key(k), r.Value(), v)
			}
			delete(rows, r.Key(k))
		}
	}
	if len(rows) > 0 {
		t.Errorf("left out: %v", rows)
	}
}
