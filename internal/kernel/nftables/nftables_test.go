// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
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
	return connect(t)
}

// connect opens one more connection in the test's namespace.
func connect(t testing.TB) *Conn {
	t.Helper()
	c, err := Open(state.IPv4, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	return c
}

func (c *Conn) tables() kernel.Tables {
	all := kernel.Absent(nil)
	all.Sets, all.Entries, all.Chains, all.Jumps = c.Sets(), c.Entries(), c.Chains(), c.Jumps()
	return all
}

// baseRows are the rows that every node has, in nftables.
func baseRows(c config.Config) state.State {
	c.Firewall = state.OnNFTables
	all, rows := plan.Base(c).State(), state.New()
	rows.Sets, rows.Chains, rows.Jumps = all.Sets, all.Chains, all.Jumps
	return rows
}

// configs are those that rules differ by.
func configs() map[string]config.Config {
	configs := map[string]config.Config{}
	add := func(name string, change func(*config.Config)) {
		c := config.Default()
		change(&c)
		configs[name] = c
	}
	prefixes := func(list ...string) (p []netip.Prefix) {
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	add("default", func(*config.Config) {})
	add("pods by their networks", func(c *config.Config) {
		c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes("10.244.0.0/16", "fd00:10:244::/56")}
	})
	add("pods by their bridge", func(c *config.Config) {
		c.LocalDetector = config.LocalDetector{Kind: config.DetectBridge, Interface: "fifteen-letters"}
	})
	add("pods by their interfaces", func(c *config.Config) {
		c.LocalDetector = config.LocalDetector{Kind: config.DetectPrefix, Interface: "veth"}
	})
	add("masquerade all, another bit", func(c *config.Config) { c.MasqueradeAll, c.MasqueradeBit = true, 31 })
	add("ping, service networks, a range of NodePorts", func(c *config.Config) {
		c.AnswerPing = true
		c.ServiceCIDRs = prefixes("10.96.0.0/12", "fd00:10:96::/108")
		c.NodePortRange = config.PortRange{First: 30000, Last: 32767}
	})
	add("routes, remote hairpins", func(c *config.Config) { c.VIPBinding, c.RemoteHairpins = config.RouteBinding, true })
	return configs
}

func TestTheKernelTakesAllRules(t *testing.T) {
	c := open(t)
	for name, configuration := range configs() {
		if err := c.Try(t.Context(), baseRows(configuration)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := testkit.Tool(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestWhatIsWrittenIsListed(t *testing.T) {
	c, have := open(t), state.New()
	for name, configuration := range configs() {
		want := baseRows(configuration)
		changes(t, c, name, have, want)
		have = want
	}
	changes(t, c, "nothing", have, state.New())
	if left := testkit.Tool(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// changes makes the rows of a kernel those that are wanted, which has to succeed.
func changes(t testing.TB, c *Conn, what string, have, want state.State) {
	t.Helper()
	r := c.tables().Apply(t.Context(), state.Diff(have, want))
	if failures, n := r.Failures(5); n > 0 || r.Drift() > 0 {
		t.Fatalf("%s: %d failures, drift %d: %v", what, n, r.Drift(), failures)
	}
	holds(t, c, what, want)
}

// holds fails the test unless all rows are as wanted.
func holds(t testing.TB, c *Conn, after string, want state.State) {
	t.Helper()
	if err := testkit.Differ(listed(t, c), want, 5); err != nil {
		t.Fatalf("after %s: %v", after, err)
	}
}

func listed(t testing.TB, c *Conn) state.State {
	t.Helper()
	rows, err := c.tables().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
