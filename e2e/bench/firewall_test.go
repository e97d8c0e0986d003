// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// BenchmarkFirewallStart compares two ways to write the firewall of a node in nftables. ours: the stores, from rows to
// the last answer. tool: nft -f with the same rows, as nft list printed them. The figures are medians of several rounds,
// and the ratio is the median of the rounds' own ratios.
func BenchmarkFirewallStart(b *testing.B) {
	for name, hairpins := range map[string]bool{"": false, "-remote-hairpins": true} {
		size := large.IPv4(10_000, 10)
		b.Run(size.String()+name, func(b *testing.B) {
			c, n := setting()
			c.Firewall, c.RemoteHairpins = state.OnNFTables, hairpins
			all, want := large.Rows(c, n, size.Objects()), state.New()
			want.Sets, want.Entries, want.Chains, want.Jumps = all.Sets, all.Entries, all.Chains, all.Jumps
			for b.Loop() {
				compareFirewalls(b, want)
			}
			b.ReportMetric(0, "ns/op") // of no meaning: both, and what checks them
			b.ReportMetric(float64(len(want.Entries)), "entries")
		})
	}
}

func compareFirewalls(b *testing.B, want state.State) {
	var ours, tool, ratios []float64
	script := filepath.Join(b.TempDir(), "rows")
	for round := range rounds + 1 {
		testkit.Namespace(b)
		took := writeFirewall(b, want)
		if round == 0 { // reads the tools from the disk
			write(b, script, loadable(testkit.Tool(b, "nft", "list", "ruleset")))
		}
		testkit.Namespace(b)
		started := time.Now()
		testkit.Tool(b, "nft", "-f", script)
		least := time.Since(started)
		if round == 0 {
			mustHaveEntries(b, want)
			continue
		}
		ours, tool, ratios = append(ours, milliseconds(took)), append(tool, milliseconds(least)), append(ratios, ratio(took, least))
	}
	b.ReportMetric(median(ours), "ours-ms")
	b.ReportMetric(median(tool), "tool-ms")
	b.ReportMetric(median(ratios), "ours/tool")
}

func write(b *testing.B, name, text string) {
	b.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// loadable leaves out the few rules that the tool (1.0.6) can print but not read: those that look into maps, and into
// sets of networks.
func loadable(ruleset string) string {
	var kept strings.Builder
	for line := range strings.Lines(ruleset) {
		if !strings.Contains(line, "[invalid type]") && !strings.Contains(line, "SOURCE-CID") || strings.Contains(line, "set ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// writeFirewall returns how long it takes to write all rows.
func writeFirewall(b *testing.B, want state.State) time.Duration {
	b.Helper()
	tables, close := firewall(b)
	defer close()
	d := state.Diff(state.New(), want)
	started := time.Now()
	r := tables.Apply(context.Background(), d)
	took := time.Since(started)
	if failures, n := r.Failures(3); n > 0 || r.Drift() > 0 {
		b.Fatalf("%d failures, drift %d: %v", n, r.Drift(), failures)
	}
	return took
}

// mustHaveEntries checks that the tool has written the same entries.
func mustHaveEntries(b *testing.B, want state.State) {
	b.Helper()
	tables, close := firewall(b)
	defer close()
	have := state.State{Sets: testkit.Listed(b, tables.Sets), Entries: testkit.Listed(b, tables.Entries)}
	if err := testkit.Differ(have, state.State{Sets: want.Sets, Entries: want.Entries}, 3); err != nil {
		b.Fatal(err)
	}
}

func firewall(b *testing.B) (kernel.Tables, func()) {
	b.Helper()
	c, err := nftables.Open(state.IPv4, state.IPv6)
	if err != nil {
		b.Fatal(err)
	}
	tables := kernel.Absent(nil)
	tables.Sets, tables.Entries, tables.Chains, tables.Jumps = c.Sets(), c.Entries(), c.Chains(), c.Jumps()
	return tables, func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	}
}
