// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestSetsAndChainsOfTheBaseAreOurs(t *testing.T) {
	base := plan.Base(config.Default())
	if len(base.Sets) != 46 || len(base.Chains) != 30 || len(base.Jumps) != 18 {
		t.Errorf("%d sets, %d chains, %d jumps; want 46, 30, 18", len(base.Sets), len(base.Chains), len(base.Jumps))
	}
	for _, r := range base.Sets {
		if !plan.OurSet(r.Key) || !plan.OurSet(r.Key.On(state.OnNFTables)) || len(r.Key) > 31 {
			t.Errorf("set %s is not ours or too long", r.Key)
		}
	}
	for _, r := range base.Chains {
		if !plan.OurChain(r.Key.Name) {
			t.Errorf("chain %v is not ours", r.Key)
		}
	}
}

func TestKubeletAndOthersOwnTheirSetsAndChains(t *testing.T) {
	for _, n := range []string{"KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", "INPUT", "cali-INPUT", ""} {
		if plan.OurChain(n) {
			t.Errorf("chain %q is not ours", n)
		}
		if plan.OurSet(state.SetName(n)) {
			t.Errorf("set %q is not ours", n)
		}
	}
}

// TestRulesNameOnlyWhatIsThere finds rules that cannot be read, and misspelt sets and chains, even in rules of only one
// configuration.
func TestRulesNameOnlyWhatIsThere(t *testing.T) {
	for name, s := range scripts(t) {
		if s.objects.Service != nil {
			continue
		}
		base := s.run().State()
		for k, chain := range base.Chains {
			for _, line := range chain.Lines() {
				r, err := rule.Parse(k.Family, line)
				if err != nil {
					t.Errorf("%s: chain %v: %v", name, k, err)
				}
				for _, m := range r.Matches {
					if m, is := m.(rule.Member); is && !hasSetOfFamily(base, m.Set, k.Family) {
						t.Errorf("%s: chain %v looks into %s", name, k, m.Set)
					}
				}
				if to, is := r.Verdict.(rule.Jump); is && !hasChain(base, k, string(to)) {
					t.Errorf("%s: chain %v goes to %s", name, k, to)
				}
			}
		}
	}
}

func hasSetOfFamily(s state.State, n state.SetName, f state.Family) bool {
	_, there := s.Sets[n]
	return there && n.Family() == f
}

// hasChain reports whether a chain is in the table of another one.
func hasChain(s state.State, of state.ChainKey, name string) bool {
	of.Name = name
	_, there := s.Chains[of]
	return there
}

func TestAVirtualServerByMarkHasNoEntries(t *testing.T) {
	if got := plan.ServerEntries(state.MarkKey(state.IPv6, 256)); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestSetsThatLetClientsKeepTheirAddress(t *testing.T) {
	var got []state.SetName
	for _, n := range plan.SetNames(state.IPv6) {
		if n.KeepsClient() {
			got = append(got, n)
		}
	}
	want := []state.SetName{
		"KUBE-6-EXTERNAL-IP-LOCAL", "KUBE-6-LOAD-BALANCER-LOCAL", "KUBE-6-NODE-PORT-LOCAL-TCP",
		"KUBE-6-NODE-PORT-LOCAL-UDP", "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
