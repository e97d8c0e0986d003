// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"
	"slices"
	"testing"
)

func TestFlowsSortByServiceAndReadWell(t *testing.T) {
	dns, dns6 := netip.MustParseAddrPort("10.96.0.10:53"), netip.MustParseAddrPort("[fd00:96::a]:53")
	flows := []Flow{
		{Protocol: UDP, Service: dns6, Endpoint: netip.MustParseAddrPort("[fd00:244::7]:53")},
		{Protocol: SCTP, Service: dns},
		{Protocol: UDP, Service: dns, Endpoint: netip.MustParseAddrPort("10.244.1.7:53")},
		{Protocol: UDP, Service: dns},
	}
	slices.SortFunc(flows, Flow.Compare)
	want := []string{
		"UDP 10.96.0.10:53 -> any",
		"UDP 10.96.0.10:53 -> 10.244.1.7:53",
		"SCTP 10.96.0.10:53 -> any",
		"UDP [fd00:96::a]:53 -> [fd00:244::7]:53",
	}
	for i, f := range flows {
		if f.String() != want[i] {
			t.Errorf("flow %d is %q, want %q", i, f, want[i])
		}
	}
}
