// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Tests with NFTables in their names need a kernel that takes our rules there.

// A node goes from one firewall to the other and back while clients of all kinds ask.
func TestChangingToNFTablesAndBackLosesNothing(t *testing.T) {
	s := newStage(t, true)
	s.UseFirewall(state.OnIPTables)
	d := s.Start(t)
	d.AwaitStart(t)
	s.Settle(t)
	l := s.startLoad(t, s.clients())
	for range 2 {
		for _, w := range []state.Firewall{state.OnNFTables, state.OnIPTables} {
			d.Stop(t)
			s.UseFirewall(w)
			d = s.Start(t)
			d.AwaitStart(t)
			l.more(t, 10)
			s.Settle(t) // and nothing is left in the other one
		}
	}
	l.end(t)
}

// kube-proxy's rules of iptables mode serve until ours in nftables do.
func TestTakingOverFromRulesToNFTablesLosesNothing(t *testing.T) {
	s := newStage(t, true)
	s.UseFirewall(state.OnNFTables)
	s.serveByRules(t)
	l := s.startLoad(t, s.clients())
	s.Start(t).AwaitStart(t)
	l.more(t, 10)
	l.end(t)
	s.Settle(t)
}
