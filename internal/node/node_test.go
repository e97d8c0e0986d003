// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// prefixes parses addresses with the length of their networks, which defaults to one address.
func prefixes(list ...string) []netip.Prefix {
	parsed := []netip.Prefix{}
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a := netip.MustParseAddr(text)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		parsed = append(parsed, p)
	}
	return parsed
}

func addrs(list ...string) []netip.Addr {
	parsed := []netip.Addr{}
	for _, a := range list {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

// same compares values with unexported fields of netip.
func same() cmp.Option {
	return cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
}

func TestUsableAddresses(t *testing.T) {
	for _, c := range []struct {
		name     string
		assigned []netip.Prefix
		usable   []netip.Addr
	}{
		{"none", nil, addrs()},
		{"loopback ones do not count, wherever they are", prefixes("127.0.0.1", "127.8.8.8", "::1"), addrs()},
		{"IPv6 link-local ones do not count", prefixes("fe80::1", "febf::1"), addrs()},
		{"IPv4 link-local ones count", prefixes("169.254.20.10"), addrs("169.254.20.10")},
		{"an address on two devices counts once", prefixes("192.0.2.1", "fd00::1", "192.0.2.1", "fd00::1"), addrs("192.0.2.1", "fd00::1")},
		{
			"sorted, IPv4 first",
			prefixes("2001:db8::2", "fd00::1", "192.0.2.10", "2001:db8::1", "10.0.0.1", "192.0.2.9"),
			addrs("10.0.0.1", "192.0.2.9", "192.0.2.10", "2001:db8::1", "2001:db8::2", "fd00::1"),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.usable, Usable(c.assigned), same()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNetworksOfTheNode(t *testing.T) {
	for _, c := range []struct {
		name     string
		assigned []netip.Prefix
		networks []netip.Prefix
	}{
		{"none", nil, prefixes()},
		{"of one address or two: they have none for all", prefixes("192.0.2.1", "192.0.2.3/31"), prefixes()},
		{"loopback's and IPv6 ones do not count", prefixes("127.0.0.1/8", "2001:db8::1/64"), prefixes()},
		{"each once, sorted", prefixes("192.0.2.9/24", "10.244.1.1/24", "192.0.2.10/24", "10.0.0.5/8"), prefixes("10.0.0.0/8", "10.244.1.0/24", "192.0.2.0/24")},
	} {
		if d := cmp.Diff(c.networks, Networks(c.assigned), same()); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestName(t *testing.T) {
	for override, want := range map[string]string{
		"node-1":                "node-1",
		" Node-1.Example.COM\n": "node-1.example.com",
	} {
		if got, err := Name(override); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", override, got, err, want)
		}
	}
	if got, err := Name("  "); err == nil {
		t.Errorf("got %q for white space, want an error", got)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Name(""); err != nil || got != strings.ToLower(strings.TrimSpace(host)) {
		t.Errorf("got %q, %v, want the host's name %q", got, err, host)
	}
}
