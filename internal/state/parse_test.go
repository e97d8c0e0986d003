// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// thereAndBack checks one row of a table: text is what String writes of key, and what parse makes key of.
func thereAndBack[K interface {
	comparable
	fmt.Stringer
}](t *testing.T, key K, text string, parse func(string) (K, error)) {
	t.Helper()
	if got := key.String(); got != text {
		t.Errorf("%#v is written as %q, want %q", key, got, text)
	}
	if got, err := parse(text); err != nil || got != key {
		t.Errorf("%q is read as %#v, %v, want %#v", text, got, err, key)
	}
}

func refused[K any](t *testing.T, texts []string, parse func(string) (K, error)) {
	t.Helper()
	for _, text := range texts {
		if got, err := parse(text); err == nil {
			t.Errorf("%q is read as %#v, want an error", text, got)
		}
	}
}

func TestFamiliesAreReadAsTheyAreWritten(t *testing.T) {
	thereAndBack(t, IPv4, "IPv4", ParseFamily)
	thereAndBack(t, IPv6, "IPv6", ParseFamily)
	refused(t, []string{"", "IPv0", "IPv5", "ipv4", "4", " IPv4"}, ParseFamily)
}

func TestProtocolsAreReadAsTheyAreWritten(t *testing.T) {
	thereAndBack(t, TCP, "TCP", ParseProtocol)
	thereAndBack(t, UDP, "UDP", ParseProtocol)
	thereAndBack(t, SCTP, "SCTP", ParseProtocol)
	thereAndBack(t, 47, "47", ParseProtocol)
	refused(t, []string{"", "0", "256", "-6", "ICMP", "tcp ", "TCP6"}, ParseProtocol)
	for n := 1; n <= 255; n++ {
		if p, err := ParseProtocol(Protocol(n).Lower()); err != nil || p != Protocol(n) {
			t.Errorf("%q is read as %v, %v, want %v", Protocol(n).Lower(), p, err, Protocol(n))
		}
	}
}

func TestForwardMethodsAreReadAsTheyAreWritten(t *testing.T) {
	thereAndBack(t, Masquerade, "Masq", ParseForwardMethod)
	thereAndBack(t, LocalNode, "Local", ParseForwardMethod)
	thereAndBack(t, Tunnel, "Tunnel", ParseForwardMethod)
	thereAndBack(t, Route, "Route", ParseForwardMethod)
	thereAndBack(t, Bypass, "Bypass", ParseForwardMethod)
	refused(t, []string{"", "masq", "Method5", "Masq "}, ParseForwardMethod)
}

func TestAddressesAreReadAsTheyAreWritten(t *testing.T) {
	thereAndBack(t, Address{netip.MustParseAddr("10.96.0.1")}, "10.96.0.1", ParseAddress)
	thereAndBack(t, Address{netip.MustParseAddr("fd00::1")}, "fd00::1", ParseAddress)
	refused(t, []string{"", "10.96.0", "fe80::1%eth0", "10.96.0.1/32"}, ParseAddress)
}

func TestBindingsAreReadAsTheyAreWritten(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	thereAndBack(t, Binding{}, "assigned", ParseBinding)
	thereAndBack(t, Binding{Means: Routed}, "routed", ParseBinding)
	thereAndBack(t, Binding{Means: Routed, Source: v4}, "routed from 192.0.2.1", ParseBinding)
	thereAndBack(t, Binding{Means: Doubled, Source: v6}, "doubled from 2001:db8::1", ParseBinding)
	thereAndBack(t, Binding{MTU: 1500}, "assigned mtu 1500", ParseBinding)
	thereAndBack(t, Binding{Means: Routed, Source: v4, MTU: 9001}, "routed from 192.0.2.1 mtu 9001", ParseBinding)
	refused(t, []string{"", "route", "assigned from 192.0.2.1", "routed from", "routed from ", "routed from fe80::1%eth0", "assigned mtu", "assigned mtu ", "assigned mtu 0", "mtu 1500", "routed mtu 1500 from 192.0.2.1"}, ParseBinding)
}

func TestVirtualServerKeysAreReadAsTheyAreWritten(t *testing.T) {
	at := func(p Protocol, a string) VirtualServerKey {
		return VirtualServerKey{Address: netip.MustParseAddrPort(a), Protocol: p}
	}
	thereAndBack(t, at(TCP, "10.96.0.1:443"), "TCP 10.96.0.1:443", ParseVirtualServerKey)
	thereAndBack(t, at(UDP, "[fd00::1]:53"), "UDP [fd00::1]:53", ParseVirtualServerKey)
	thereAndBack(t, at(SCTP, "0.0.0.0:0"), "SCTP 0.0.0.0:0", ParseVirtualServerKey)
	thereAndBack(t, at(TCP, "[::ffff:10.0.0.1]:80"), "TCP [::ffff:10.0.0.1]:80", ParseVirtualServerKey)
	thereAndBack(t, at(47, "10.96.0.1:0"), "47 10.96.0.1:0", ParseVirtualServerKey)
	thereAndBack(t, MarkKey(IPv4, 256), "FWM 256", ParseVirtualServerKey)
	thereAndBack(t, MarkKey(IPv6, 1<<32-1), "FWM 4294967295 IPv6", ParseVirtualServerKey)
	refused(t, []string{
		"", "TCP", "TCP ", "TCP 10.96.0.1", "TCP  10.96.0.1:443", "TCP 10.96.0.1:443 rr", "TCP 10.96.0.1:65536",
		"TCP fd00::1:443", "TCP [fe80::1%eth0]:443", "10.96.0.1:443",
		"FWM", "FWM 0", "FWM 0x100", "FWM 4294967296", "FWM -1", "FWM 256 ", "FWM 256 IPv4", "FWM 256 IPv6 ",
	}, ParseVirtualServerKey)
}

func TestRealServerKeysAreReadAsTheyAreWritten(t *testing.T) {
	key := RealServerKey{
		Server:  VirtualServerKey{Address: netip.MustParseAddrPort("10.96.0.1:443"), Protocol: TCP},
		Address: netip.MustParseAddrPort("192.0.2.1:6443"),
	}
	thereAndBack(t, key, "TCP 10.96.0.1:443 -> 192.0.2.1:6443", ParseRealServerKey)
	key = RealServerKey{Server: MarkKey(IPv6, 256), Address: netip.MustParseAddrPort("[fd00::2]:80")}
	thereAndBack(t, key, "FWM 256 IPv6 -> [fd00::2]:80", ParseRealServerKey)
	refused(t, []string{
		"", "TCP 10.96.0.1:443", "TCP 10.96.0.1:443 -> ", "TCP 10.96.0.1:443 ->192.0.2.1:6443",
		"TCP 10.96.0.1:443 -> 192.0.2.1:6443 -> 192.0.2.1:6443", "TCP 10.96.0.1:443 -> [fe80::1%eth0]:6443",
	}, ParseRealServerKey)
}

func TestSetEntriesAreReadAsTheyAreWritten(t *testing.T) {
	back := func(text string, e SetEntry) {
		t.Helper()
		e.Set = "KUBE-SET"
		thereAndBack(t, e, "KUBE-SET "+text, ParseSetEntry)
	}
	v4, v6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")
	prefix := netip.MustParsePrefix
	back("30080", SetEntry{Port: 30080})
	back("0", SetEntry{})
	back("10.96.0.1", SetEntry{Address: v4})
	back("fd00::1", SetEntry{Address: v6})
	back("10.96.0.1,tcp:443", SetEntry{Address: v4, Protocol: TCP, Port: 443})
	back("fd00::1,sctp:443", SetEntry{Address: v6, Protocol: SCTP, Port: 443})
	back("10.96.0.1,47:0", SetEntry{Address: v4, Protocol: 47})
	back("10.96.0.1,udp:53,10.96.0.1", SetEntry{Address: v4, Protocol: UDP, Port: 53, Source: prefix("10.96.0.1/32")})
	back("fd00::1,udp:53,fd00::/64", SetEntry{Address: v6, Protocol: UDP, Port: 53, Source: prefix("fd00::/64")})
	back("10.96.0.1,tcp:443,0.0.0.0/0", SetEntry{Address: v4, Protocol: TCP, Port: 443, Source: prefix("0.0.0.0/0")})
	refused(t, []string{
		"", "KUBE-SET", "KUBE-SET ", " 80", "KUBE-SET 65536", "KUBE-SET -1", "KUBE-SET 10.96.0.1,", "KUBE-SET 10.96.0.1,443",
		"KUBE-SET 10.96.0.1,tcp", "KUBE-SET 10.96.0.1,tcp:", "KUBE-SET 10.96.0.1,0:443", "KUBE-SET 10.96.0.1,tcp:443,",
		"KUBE-SET 10.96.0.1,tcp:443,10.0.0.0/33", "KUBE-SET 10.96.0.1,tcp:443,10.0.0.1/24",
		"KUBE-SET 10.96.0.1,tcp:443,10.0.0.1,10.0.0.2", "KUBE-SET fe80::1%eth0", "KUBE-SET fd00::1,tcp:443,fe80::1%eth0",
	}, ParseSetEntry)
}

func TestChainAndJumpKeysAreReadAsTheyAreWritten(t *testing.T) {
	thereAndBack(t, ChainKey{IPv4, NAT, "KUBE-SERVICES"}, "IPv4 nat KUBE-SERVICES", ParseChainKey)
	thereAndBack(t, ChainKey{IPv6, Mangle, "KUBE-IPVS-MARK"}, "IPv6 mangle KUBE-IPVS-MARK", ParseChainKey)
	refused(t, []string{"", "IPv4 nat", "IPv4 nat ", "IPv4 raw X", "IPv5 nat X", "IPv4 nat X Y", "IPv4  nat X"}, ParseChainKey)

	jump := JumpKey{IPv4, Filter, "INPUT", "KUBE-IPVS-FILTER"}
	thereAndBack(t, jump, "IPv4 filter INPUT -> KUBE-IPVS-FILTER", ParseJumpKey)
	refused(t, []string{
		"", "IPv4 filter INPUT", "IPv4 filter INPUT -> ", "IPv4 filter  -> X", "IPv4 filter INPUT => X", "IPv4 filter INPUT -> X Y",
		"IPv4 raw INPUT -> X",
	}, ParseJumpKey)
}

func TestChainsAreMadeOfLines(t *testing.T) {
	for _, rules := range [][]string{nil, {"-j A"}, {"-j A", "-j B"}} {
		c := ChainOf(rules...)
		if got := c.Lines(); strings.Join(got, "|") != strings.Join(rules, "|") || len(got) != len(rules) {
			t.Errorf("the lines of a chain of %q are %q", rules, got)
		}
	}
}

// fuzz checks that what is read from any text is written so that it reads the same again.
func fuzz[K interface {
	comparable
	fmt.Stringer
}](f *testing.F, parse func(string) (K, error), seeds ...string) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parse(text)
		if err != nil {
			return
		}
		if again, err := parse(key.String()); err != nil || again != key {
			t.Errorf("%q is read as %#v, written as %q, and read again as %#v, %v", text, key, key.String(), again, err)
		}
	})
}

func FuzzParseVirtualServerKey(f *testing.F) {
	fuzz(f, ParseVirtualServerKey, "TCP 10.96.0.1:443", "udp [fd00::1]:53", "47 [::ffff:10.0.0.1]:0", "FWM 256", "FWM 1 IPv6",
		"TCP [fe80::1%0]:1")
}

func FuzzParseRealServerKey(f *testing.F) {
	fuzz(f, ParseRealServerKey, "TCP 10.96.0.1:443 -> 192.0.2.1:6443", "FWM 256 IPv6 -> [fd00::2]:80", "FWM 1 -> 192.0.2.1:0")
}

func FuzzParseSetEntry(f *testing.F) {
	fuzz(f, ParseSetEntry, "S 80", "S 10.96.0.1", "S 10.96.0.1,tcp:443", "S fd00::1,udp:53,fd00::/64", "S 10.0.0.1,47:0,10.0.0.1",
		"S ::ffff:10.0.0.1,6:1,::ffff:10.0.0.0/120", "S 10.96.0.1,tcp:443,0.0.0.0/0")
}

func FuzzParseAddress(f *testing.F) {
	fuzz(f, ParseAddress, "10.96.0.1", "fd00::1", "::ffff:10.0.0.1", "fe80::1%0")
}

func FuzzParseChainKey(f *testing.F) {
	fuzz(f, ParseChainKey, "IPv4 nat KUBE-SERVICES", "IPv6 filter A", "IPv4 mangle \x00")
}

func FuzzParseJumpKey(f *testing.F) {
	fuzz(f, ParseJumpKey, "IPv4 nat PREROUTING -> KUBE-SERVICES", "IPv6 mangle INPUT -> ->")
}

func FuzzParseWords(f *testing.F) {
	for _, word := range []string{"IPv4", "tcp", "47", "Masq", "Local"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := ParseFamily(text); err == nil && v.String() != text {
			t.Errorf("family %q is written as %v", text, v)
		}
		if v, err := ParseForwardMethod(text); err == nil && v.String() != text {
			t.Errorf("forwarding method %q is written as %v", text, v)
		}
		v, err := ParseProtocol(text)
		if again, errAgain := ParseProtocol(v.String()); err == nil && (errAgain != nil || again != v) {
			t.Errorf("protocol %q is read as %d, written as %v, and read again as %d, %v", text, v, v, again, errAgain)
		}
	})
}
