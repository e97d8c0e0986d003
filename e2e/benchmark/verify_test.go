// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// served is what the kernel holds of two Services with an endpoint each.
func served() state.State {
	s := state.New()
	for n := range 2 {
		server := serverOf(n)
		s.VirtualServers[server] = state.VirtualServer{Scheduler: "rr"}
		s.RealServers[state.RealServerKey{Server: server, Address: netip.MustParseAddrPort("10.128.0.1:8080")}] = state.RealServer{Weight: 1}
		s.Entries[entryOf(n)] = state.Entry{}
		s.Addresses[state.Address{Addr: server.Address.Addr()}] = state.Binding{}
	}
	services := state.ChainKey{Family: state.IPv4, Table: state.NAT, Name: "KUBE-SERVICES"}
	s.Chains[services] = state.ChainOf("-m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ")
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: "KUBE-SERVICES"}] = state.Jump{Rule: "-j KUBE-SERVICES"}
	return s
}

func anyOf[K comparable, V any](table map[K]V) K {
	for k := range table {
		return k
	}
	panic("an empty table")
}

func TestWhatIsMissingInTheKernelIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(state.State)
		want  string
		ours  bool // only ours has to have it exactly
	}{
		"nothing":                 {func(state.State) {}, "", false},
		"a virtual server":        {func(s state.State) { delete(s.VirtualServers, serverOf(1)) }, "virtual servers", false},
		"a real server":           {func(s state.State) { delete(s.RealServers, anyOf(s.RealServers)) }, "real servers", false},
		"a weight":                {func(s state.State) { s.RealServers[anyOf(s.RealServers)] = state.RealServer{} }, "real servers", false},
		"an entry":                {func(s state.State) { delete(s.Entries, entryOf(0)) }, "entries", false},
		"an address":              {func(s state.State) { clear(s.Addresses) }, "addresses", false},
		"the rules":               {func(s state.State) { clear(s.Chains) }, "KUBE-", false},
		"the rule":                {func(s state.State) { s.Chains[anyOf(s.Chains)] = state.ChainOf("-j ACCEPT") }, "KUBE-", false},
		"the way to the rules":    {func(s state.State) { clear(s.Jumps) }, "KUBE-", false},
		"a scheduler":             {func(s state.State) { s.VirtualServers[serverOf(0)] = state.VirtualServer{} }, "virtual servers", true},
		"too many virtual ones":   {func(s state.State) { s.VirtualServers[serverOf(2)] = state.VirtualServer{} }, "too many", false},
		"another program's entry": {func(s state.State) { s.Entries[state.SetEntry{Set: "OTHERS"}] = state.Entry{} }, "entries", true},
	} {
		got := served()
		c.spoil(got)
		for _, p := range []program{newOurs(""), newTheirs("")} {
			err := p.holds(got, served())
			found := err != nil && c.want != "" && strings.Contains(err.Error(), c.want)
			if should := c.want != "" && (!c.ours || p.written != nil); found != should || (err == nil) == should {
				t.Errorf("%s is missing: %s says %v", name, p.name, err)
			}
		}
	}
}

func TestAnErrorNamesSomeRowsAndCountsAll(t *testing.T) {
	want := map[int]string{1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}
	got := maps.Clone(want)
	delete(got, 1)
	delete(got, 2)
	got[3], got[9] = "x", "y"
	err := differ("numbers", diff.Of(got, want, cmp.Compare[int]))
	if err == nil || !strings.Contains(err.Error(), "of the numbers 2 are missing, 1 wrong and 1 too many") {
		t.Errorf("%v", err)
	}
	if err := differ("numbers", diff.Of(want, want, cmp.Compare[int])); err != nil {
		t.Error(err)
	}
}
