// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func open(t testing.TB) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open(state.IPv4, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// baseRows are the rows that every node has, in nftables.
func baseRows() state.State {
	c := config.Default()
	rows := plan.Base(c).State()
	s := state.New()
	for n, v := range rows.Sets {
		f := n.Family()
		switch n {
		case state.SetInside.For(f):
			v.Type = state.MapIPPortToPort
		case state.SetAllPorts.For(f):
			v.Type = state.MapIPPortToIP
		}
		s.Sets[n.On(state.OnNFTables)] = headerOf(f, v.Type)
	}
	for k, v := range rows.Chains {
		k.Table = k.Table.On(state.OnNFTables)
		v.Rules = strings.ReplaceAll(v.Rules, "match-set ", "match-set nft:")
		v.Rules = strings.ReplaceAll(v.Rules, "-m set --match-set nft:KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN", "-p tcp -m set --match-set nft:KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN")
		s.Chains[k] = v
	}
	for k, v := range rows.Jumps {
		k.Table = k.Table.On(state.OnNFTables)
		s.Jumps[k] = v
	}
	return s
}

func TestTheKernelTakesAllRules(t *testing.T) {
	c := open(t)
	if err := c.Try(t.Context(), baseRows()); err != nil {
		t.Fatal(err)
	}
}

func (c *Conn) tables() kernel.Tables {
	all := kernel.Absent(nil)
	all.Sets, all.Entries, all.Chains, all.Jumps = c.Sets(), c.Entries(), c.Chains(), c.Jumps()
	return all
}

func TestWhatIsWrittenIsListed(t *testing.T) {
	c := open(t)
	want := baseRows()
	r := c.tables().Apply(t.Context(), state.Diff(state.New(), want))
	if failures, n := r.Failures(5); n > 0 || r.Drift() > 0 {
		t.Fatalf("%d failures, drift %d: %v", n, r.Drift(), failures)
	}
	have, err := c.tables().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := testkit.Differ(have, want, 5); err != nil {
		t.Fatal(err)
	}
	r = c.tables().Apply(t.Context(), state.Diff(want, state.New()))
	if failures, n := r.Failures(5); n > 0 || r.Drift() > 0 {
		t.Fatalf("%d failures, drift %d: %v", n, r.Drift(), failures)
	}
	if left := testkit.Tool(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left: %s", left)
	}
}
