// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestSetsAndChainsOfTheBaseAreOurs(t *testing.T) {
	base := plan.Base(config.Default())
	if len(base.Sets) != 46 || len(base.Chains) != 30 || len(base.Jumps) != 18 {
		t.Errorf("%d sets, %d chains, %d jumps; want 46, 30, 18", len(base.Sets), len(base.Chains), len(base.Jumps))
	}
	for _, r := range base.Sets {
		if !plan.OurSet(r.Key) || len(r.Key) > 31 {
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

// TestRulesNameOnlyWhatIsThere finds misspelt sets, chains and words, even in rules of only one configuration.
func TestRulesNameOnlyWhatIsThere(t *testing.T) {
	match := regexp.MustCompile(`(?:--match-set|--map-set) (\S+)`)
	target := regexp.MustCompile(`-j (KUBE-\S+)`)
	for name, s := range scripts(t) {
		if s.objects.Service != nil {
			continue
		}
		base := s.run().State()
		for k, chain := range base.Chains {
			ours := plan.SetNames(k.Family)
			if strings.ContainsAny(chain.Rules, "{}[]") {
				t.Errorf("%s: chain %v has an unknown word: %s", name, k, chain.Rules)
			}
			for _, m := range match.FindAllStringSubmatch(chain.Rules, -1) {
				if !slices.Contains(ours, state.SetName(m[1])) {
					t.Errorf("%s: chain %v looks into %s", name, k, m[1])
				}
			}
			for _, m := range target.FindAllStringSubmatch(chain.Rules, -1) {
				if _, ok := base.Chains[state.ChainKey{Family: k.Family, Table: k.Table, Name: m[1]}]; !ok {
					t.Errorf("%s: chain %v goes to %s", name, k, m[1])
				}
			}
		}
	}
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
