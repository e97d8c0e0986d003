// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// What a Service needs does not depend on the firewall: the rows are the same, each in the set, chain or table of its
// name there.
func TestEachFirewallHasTheSameRows(t *testing.T) {
	for name, s := range scripts(t) {
		if s.config.Kernel.NoNetmap || !s.config.Kernel.ShiftsPorts() {
			continue // iptables lacks what nftables has
		}
		s.config.Firewall = state.OnIPTables
		want := text(s.run())
		s.config.Firewall = state.OnNFTables
		f := s.run()
		checkInvariants(t, f)
		if d := cmp.Diff(want, text(onIPTables(f))); d != "" {
			t.Errorf("%s (-iptables +nftables):\n%s", name, d)
		}
	}
}

// onIPTables gives the rows of nftables the names and headers of iptables.
func onIPTables(f plan.Fragment) plan.Fragment {
	s := f.State()
	sets, entries := map[state.SetName]state.Set{}, map[state.SetEntry]state.Entry{}
	for n, v := range s.Sets {
		if v.Type != state.BitmapPort {
			v.MaxElem = 1 << 20
		}
		if v.Type == state.MapIPPortToPort || v.Type == state.MapIPPortToIP {
			v.Type = state.HashIPPort
		}
		sets[n.Bare()] = v
	}
	for e, v := range s.Entries {
		e.Set = e.Set.Bare()
		entries[e] = v
	}
	chains, jumps := map[state.ChainKey]state.Chain{}, map[state.JumpKey]state.Jump{}
	for k, v := range s.Chains {
		k.Table = k.Table.Bare()
		chains[k] = state.Chain{Rules: strings.ReplaceAll(v.Rules, "-set nft:", "-set ")}
	}
	for k, v := range s.Jumps {
		k.Table = k.Table.Bare()
		jumps[k] = v
	}
	s.Sets, s.Entries, s.Chains, s.Jumps = sets, entries, chains, jumps
	bare := state.FragmentOf(s, f.Notes)
	bare.HealthCheck, bare.DrainTimeout, bare.Drains, bare.Forwards = f.HealthCheck, f.DrainTimeout, f.Drains, f.Forwards
	return bare
}

// In nftables a rule keeps its text beside it, for which the kernel has 256 bytes, two of them and the final NUL for
// its kind and length.
func TestTheTextOfEveryRuleFitsBesideIt(t *testing.T) {
	const room = 253
	for name, s := range scripts(t) {
		s.config.Firewall = state.OnNFTables
		for _, row := range s.run().Chains {
			for _, line := range row.Value.Lines() {
				if len(line) > room {
					t.Errorf("%s: %d bytes, at most %d: %s", name, len(line), room, line)
				}
			}
		}
	}
}

func TestEntriesOfEitherFirewallAreProofs(t *testing.T) {
	for name, s := range scripts(t) {
		for _, w := range state.Firewalls() {
			s.config.Firewall = w
			rows := s.run().State()
			proves := func(e state.SetEntry) bool { _, there := rows.Entries[e]; return there }
			for k := range rows.VirtualServers {
				if !slices.ContainsFunc(slices.Collect(plan.Ownership{}.Proofs(k, true)), proves) {
					t.Errorf("%s, %v: no entry proves %v", name, w, k)
				}
			}
			for a := range rows.Addresses {
				if !slices.ContainsFunc(slices.Collect(plan.Ownership{}.AddressProofs(a)), proves) {
					t.Errorf("%s, %v: no entry proves %v", name, w, a)
				}
			}
		}
	}
}
