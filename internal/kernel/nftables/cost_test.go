// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// many is how many Services the node has.
const many = 10_000

func filled(t testing.TB) (*Conn, []diff.Row[state.SetEntry, state.Entry]) {
	t.Helper()
	c, n := open(t), state.SetClusterIP.On(state.OnNFTables)
	rows := baseRows(config.Default())
	rows.Entries = frontends(n, 0, many)
	r := c.tables().Apply(t.Context(), state.Diff(state.New(), rows))
	if failures, all := r.Failures(3); all > 0 {
		t.Fatal(failures)
	}
	return c, testkit.Rows(frontends(n, many, 1))
}

// A request more begins the transaction and one ends it.
func TestAChangeIsOneSendmsg(t *testing.T) {
	c, row := filled(t)
	other := row[0].Value
	other.Comment = "shop/other:http"
	for _, step := range []struct {
		what  string
		delta entryDelta
		want  netlink.Traffic
	}{
		{"adding an entry", entryDelta{Add: row}, netlink.Traffic{Calls: 1, Requests: 2 + 1}},
		{"changing an entry", entryDelta{Update: []diff.Change[state.SetEntry, state.Entry]{{Key: row[0].Key, New: other}}}, netlink.Traffic{Calls: 1, Requests: 2 + 2}},
		{"removing an entry", entryDelta{Remove: row}, netlink.Traffic{Calls: 1, Requests: 2 + 1}},
	} {
		before := c.Traffic()
		testkit.Apply(t, c.Entries(), step.delta, 0)
		after := c.Traffic()
		if got := (netlink.Traffic{Calls: after.Calls - before.Calls, Requests: after.Requests - before.Requests}); got != step.want {
			t.Errorf("%s took %+v, want %+v", step.what, got, step.want)
		}
	}
}

// Chains change with the configuration alone. What they cost does not grow with the Services.
func TestAChangeOfAChainAsksAFewTimes(t *testing.T) {
	c, _ := filled(t)
	key := state.ChainKey{Family: state.IPv4, Table: "nft-nat", Name: state.ChainMarkMasq}
	before := c.Traffic()
	testkit.Apply(t, c.Chains(), chainDelta{Update: []diff.Change[state.ChainKey, state.Chain]{{Key: key, New: state.ChainOf("-j RETURN")}}}, 0)
	if calls := c.Traffic().Calls - before.Calls; calls != 6 { // sets, tables, chains, rules of two families, and the transaction
		t.Errorf("changing a chain took %d calls", calls)
	}
}

func BenchmarkOneEntry(b *testing.B) {
	c, row := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range []entryDelta{{Add: row}, {Remove: row}} {
			if r := c.Entries().Apply(b.Context(), d); len(r.Failed) > 0 || r.Drift > 0 {
				b.Fatalf("%+v", r)
			}
		}
	}
}

func BenchmarkList(b *testing.B) {
	c, _ := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		if rows := testkit.Listed(b, c.Entries()); len(rows) != many {
			b.Fatalf("listed %d rows", len(rows))
		}
	}
}
