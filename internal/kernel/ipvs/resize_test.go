// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Since 7.1 the kernel moves virtual servers to a larger table soon after there are more of them, and to a smaller one
// soon after there are fewer. Then /proc leaves some out or shows them twice, and a dump that goes on from a count does,
// too. Listings must be whole all the same.
func TestListingsAreWholeWhileTheKernelResizesItsTable(t *testing.T) {
	c := connect(t)
	virtual, real := map[state.VirtualServerKey]state.VirtualServer{}, map[state.RealServerKey]state.RealServer{}
	check := func() {
		t.Helper()
		for range 2 {
			expect(t, c.RealServers(), real)
			expect(t, c.VirtualServers(), virtual)
		}
	}
	address, behind := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddrPort("10.244.0.2:8080")
	for n := 16; n <= 512; n *= 2 {
		var v virtualDelta
		var r realDelta
		for range n {
			k := state.VirtualServerKey{Address: netip.AddrPortFrom(address, 80), Protocol: state.TCP}
			b := state.RealServerKey{Server: k, Address: behind}
			virtual[k], real[b] = plain, state.RealServer{Weight: 1}
			v.Add, r.Add = append(v.Add, virtualRow{Key: k, Value: plain}), append(r.Add, realRow{Key: b, Value: real[b]})
			address = address.Next()
		}
		apply(t, c.VirtualServers(), v, 0)
		apply(t, c.RealServers(), r, 0)
		check()
	}
	var gone virtualDelta
	for k := range virtual {
		if len(virtual) > 16 {
			gone.Remove = append(gone.Remove, virtualRow{Key: k, Value: plain})
			delete(real, state.RealServerKey{Server: k, Address: behind})
			delete(virtual, k)
		}
	}
	apply(t, c.VirtualServers(), gone, 0)
	check()
}
