// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestFragmentOfIsSortedAndLosesNothing(t *testing.T) {
	s := New()
	s.Sysctls["b"], s.Sysctls["a"] = "2", "1"
	s.Sets["set"] = Set{Type: BitmapPort}
	s.Entries[SetEntry{Set: "set", Port: 1}] = Entry{Comment: "c"}
	s.Chains[ChainKey{Family: IPv4, Table: NAT, Name: "C"}] = ChainOf("-j RETURN")
	s.Jumps[JumpKey{Family: IPv4, Table: NAT, From: "OUTPUT", To: "C"}] = Jump{Rule: "-j C"}
	s.Links[DummyLink] = Link{Kind: "dummy"}
	s.VirtualServers[MarkKey(IPv4, 1)] = VirtualServer{Scheduler: "rr"}
	s.RealServers[RealServerKey{Server: MarkKey(IPv4, 1)}] = RealServer{Weight: 1}
	for _, a := range []string{"2001:db8::1", "192.0.2.2", "192.0.2.1"} {
		s.Addresses[Address{netip.MustParseAddr(a)}] = Binding{}
	}
	f := FragmentOf(s, []Note{{Reason: TooLong}})
	if got := f.State(); !reflect.DeepEqual(got, s) {
		t.Errorf("got %v, want %v", got, s)
	}
	if len(f.Notes) != 1 || f.Sysctls[0].Key != "a" {
		t.Errorf("notes %v, sysctls %v", f.Notes, f.Sysctls)
	}
	var addresses []string
	for _, r := range f.Addresses {
		addresses = append(addresses, r.Key.String())
	}
	if got := strings.Join(addresses, " "); got != "192.0.2.1 192.0.2.2 2001:db8::1" {
		t.Errorf("addresses %s", got)
	}
}

func TestAnEmptyFragmentIsTheZeroFragment(t *testing.T) {
	if f := FragmentOf(New(), nil); !reflect.DeepEqual(f, Fragment{}) {
		t.Errorf("got %+v", f)
	}
}

func TestEveryReasonHasAName(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		name := r.String()
		if seen[name] || strings.ContainsAny(name, "0123456789 ") {
			t.Errorf("reason %d is %q", uint8(r), name)
		}
		seen[name] = true
	}
	n := Note{Reason: InvalidPort, Field: "spec.ports[0]", Message: "why"}
	if got := n.String(); got != "InvalidPort spec.ports[0]: why" {
		t.Error(got)
	}
}
