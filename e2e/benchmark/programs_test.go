// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const ourLog = `2026-11-21T20:38:41.222Z	info	configuration	{"proxyMode": "ipvs"}
2026-11-21T20:38:41.822Z	info	kernel synced	{"cause": "start", "rows": 20157, "took": "1.5s", "virtual servers": 1000}
2026-11-21T20:38:41.922Z	info	kernel synced	{"cause": "start", "rows": 1, "took": "250ms", "addresses": 1}
2026-11-21T20:38:42.022Z	info	start completed	{"written": 20158}
2026-11-21T20:38:43.022Z	info	kernel synced	{"cause": "change", "rows": 1, "took": "2ms"}
`

const theirLog = `I1121 20:38:57.322640     904 server_linux.go:53] "Using iptables proxy"
W1121 20:38:57.322640     904 proxier.go:1] "The ipvs proxier is now deprecated and may be removed in a future release."
I1121 20:38:58.322640     904 shared_informer.go:320] Caches are synced for service config
`

func TestWhatFailedIsFoundInALog(t *testing.T) {
	for _, c := range []struct {
		program   program
		log, line string
	}{
		{newOurs(""), ourLog, ""}, {newTheirs(""), theirLog, ""},
		{newOurs(""), ourLog, `2026-11-21T20:38:42.022Z	warn	kernel refused some rows; trying them again	{"refused": 3}`},
		{newOurs(""), ourLog, `2026-11-21T20:38:42.022Z	error	out of order	{}`},
		{newOurs(""), ourLog, `panic: runtime error`},
		{newTheirs(""), theirLog, `E1121 20:38:58.1     904 proxier.go:1494] "Failed to execute iptables-restore" err="exit status 1" rules=""`},
		{newTheirs(""), theirLog, `E1121 20:38:58.1     904 proxier.go:1] "Failed to ensure chain exists" table="nat"`},
		{newTheirs(""), theirLog, `I1121 20:38:58.1     904 proxier.go:1] "iptables-restore failed" err="x"`},
	} {
		if got := strings.Join(c.program.complaints([]byte(c.log+c.line+"\n")), "\n"); got != c.line {
			t.Errorf("complaints of %s are %q, want the line %q", c.program.name, got, c.line)
		}
	}
}

func TestOursSaysWhatItsStartCost(t *testing.T) {
	p := newOurs("")
	if took := p.kernelTook([]byte(ourLog)); took != 1750*time.Millisecond {
		t.Errorf("%v in the kernel, want 1.75s", took)
	}
	got := []int{p.rowsWritten([]byte(ourLog)), p.rowsWritten(nil), newTheirs("").rowsWritten([]byte(ourLog))}
	if want := []int{20158, -1, -1}; !slices.Equal(got, want) {
		t.Errorf("ours wrote, ours before it says so, and theirs: %d rows, want %d", got, want)
	}
}

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
			if should := c.want != "" && (!c.ours || p.name == ours); found != should || (err == nil) == should {
				t.Errorf("%s is missing: %s says %v", name, p.name, err)
			}
		}
	}
}

func TestAnErrorCountsAllRows(t *testing.T) {
	want := map[int]string{1: "a", 2: "b", 3: "c"}
	err := differ("numbers", diff.Of(map[int]string{3: "x", 9: "y"}, want, cmp.Compare[int]))
	if err == nil || !strings.Contains(err.Error(), "of the numbers 2 are missing, 1 wrong and 1 too many") {
		t.Errorf("%v", err)
	}
	if err := differ("numbers", diff.Of(want, want, cmp.Compare[int])); err != nil {
		t.Error(err)
	}
}
