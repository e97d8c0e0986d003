// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"
	"testing"
)

// NETMAP keeps the last bits of an address.
func TestAddressesInAnotherNetwork(t *testing.T) {
	for _, c := range []struct{ address, network, want string }{
		{"10.96.0.10", "250.0.0.0/8", "250.96.0.10"},
		{"203.0.113.7", "250.0.0.0/8", "250.0.113.7"},
		{"10.96.213.10", "192.168.64.0/18", "192.168.85.10"},
		{"10.96.0.10", "192.0.2.1/32", "192.0.2.1"},
		{"10.96.0.10", "0.0.0.0/0", "10.96.0.10"},
		{"fd00:10:96::a", "fd5f:8a2c::/32", "fd5f:8a2c:96::a"},
	} {
		if got := InNetwork(netip.MustParseAddr(c.address), netip.MustParsePrefix(c.network)); got.String() != c.want {
			t.Errorf("%s in %s: %v, want %s", c.address, c.network, got, c.want)
		}
	}
}

func TestAFrontendIsLedToAllPortsOfAnAddress(t *testing.T) {
	for member, want := range map[string]string{
		"KUBE-ALL-PORTS 10.96.0.10,tcp:21":        "TCP 250.96.0.10:0",
		"KUBE-6-ALL-PORTS fd00:10:96::a,sctp:132": "SCTP [fd5f:8a2c:96::a]:0",
	} {
		e, err := ParseSetEntry(member)
		if err != nil {
			t.Fatal(err)
		}
		k, leads := e.LeadsTo(Entry{})
		if !leads || k.String() != want || !Inside(k.Address.Addr()) || Inside(e.Address) {
			t.Errorf("%s leads to %v (%v), want %s", member, k, leads, want)
		}
	}
}
