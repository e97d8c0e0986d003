// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addresses(list string) []netip.Addr {
	var parsed []netip.Addr
	for _, a := range strings.Fields(list) {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

func TestWhereIsListened(t *testing.T) {
	const node = "192.0.2.1 198.51.100.1 198.51.100.2 2001:db8::1"
	for _, c := range []struct{ name, networks, want string }{
		{"no networks", "", "0.0.0.0 ::"},
		{"all addresses of both families", "0.0.0.0/0 ::/0", "0.0.0.0 ::"},
		{"all addresses beside some", "198.51.100.0/24 0.0.0.0/0 2001:db8::/64", "0.0.0.0 2001:db8::1"},
		{"one family's networks leave the other alone", "198.51.100.0/24", "198.51.100.1 198.51.100.2 ::"},
		{"the other family's", "2001:db8::/64", "0.0.0.0 2001:db8::1"},
		{"networks that overlap", "198.51.100.0/24 198.51.0.0/16 2001:db8::/64", "198.51.100.1 198.51.100.2 2001:db8::1"},
		{"networks without an address of the node", "203.0.113.0/24 2001:db8:1::/64", ""},
		{"loopback networks", "127.0.0.0/8 ::1/128", "127.0.0.1 ::1"},
	} {
		var networks []netip.Prefix
		for _, p := range strings.Fields(c.networks) {
			networks = append(networks, netip.MustParsePrefix(p))
		}
		if got := Listening(networks, addresses(node)); !slices.Equal(got, addresses(c.want)) {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
}
