// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Tests with NFTables in their names need a kernel that takes our rules there.

// nftablesBreakages are what other programs and people do to our table of nftables, and to all tables.
func nftablesBreakages() map[string]string {
	return map[string]string{
		"all rules are flushed, as by a reload of a firewall": `nft flush ruleset`,
		"a table is deleted":                `nft delete table ip kube-ipvs`,
		"the rules of a table are flushed":  `nft flush table ip6 kube-ipvs`,
		"a chain is flushed":                `nft flush chain ip kube-ipvs nat-KUBE-SERVICES`,
		"a rule comes before ours":          `nft insert rule ip kube-ipvs filter-KUBE-IPVS-FILTER drop`,
		"a rule comes before our jumps":     `nft insert rule ip6 kube-ipvs nat-PREROUTING accept`,
		"a base chain gets another policy":  `nft add chain ip kube-ipvs filter-INPUT '{ policy drop; }'`,
		"a table is put to sleep":           `nft add table ip kube-ipvs '{ flags dormant; }'`,
		"an element is deleted":             `nft delete element ip kube-ipvs KUBE-IPVS-IPS '{ 10.96.0.1 }'`,
		"a set is emptied":                  `nft flush set ip6 kube-ipvs KUBE-6-CLUSTER-IP`,
		"an element of no Service is added": `nft add element ip kube-ipvs KUBE-CLUSTER-IP '{ 10.96.99.99 . tcp . 80 }'`,
	}
}

// The kernel reports changes of nftables, so a repair does not wait for the next audit.
func TestBreakagesOfNFTablesAreRepairedWithinASecond(t *testing.T) {
	r := rig.New(t, func(c *config.Config) { c.SyncPeriod = time.Hour })
	r.UseFirewall(state.OnNFTables)
	serve(t, r, "pod-a", "pod-b", "pod-d")
	r.Write(t, "web", web())
	r.Write(t, "sticky", sticky())
	s := &sharedNode{Rig: r, daemon: r.Start(t)}
	s.daemon.AwaitStart(t)
	s.want = r.Settle(t)
	for name, script := range nftablesBreakages() {
		t.Run(name, func(t *testing.T) {
			took := s.breakNFTables(t, script)
			t.Logf("repaired after %v", took.Round(time.Millisecond))
			if limit := time.Second + 2*s.reading; took > limit {
				t.Errorf("repaired after %v, want at most %v", took, limit)
			}
		})
	}
	for range len(web().Endpoints) {
		for _, c := range dial(t, s.Rig, web()) {
			if _, err := c.Ask(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// breakNFTables runs a script and returns how long the repair took.
func (s *sharedNode) breakNFTables(t *testing.T, script string) time.Duration {
	t.Helper()
	s.look(t)
	written := len(s.daemon.Writes(t))
	mustShell(t, s.Rig, script)
	broken := time.Now()
	var repaired rig.Line
	rig.Until(t, rig.Patience, func() error {
		lines := s.daemon.Writes(t)
		if len(lines) == written {
			return errors.New("kube-ipvs has not repaired anything")
		}
		written, repaired = len(lines), lines[len(lines)-1]
		return rig.Differ(s.look(t), s.want)
	})
	return max(0, repaired.Time.Sub(broken))
}
