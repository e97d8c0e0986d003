// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

func TestWhatOfOthersStopsServicesIsFoundOnce(t *testing.T) {
	for rules, want := range map[string]string{
		"":                  "",
		"filter -P FORWARD": "", // our rule comes before it
		"filter -I INPUT -j DROP": "filter INPUT 1 (-j DROP) stops packets to Services, such as 192.0.2.200 -> 10.96.0.80:80/TCP: " +
			"let its owner accept Services, or accept them in a rule before it",
		"filter -I INPUT -p tcp -m multiport --dports 80,30080 -j ACCEPT;filter -A INPUT -j DROP": "",
		"filter -I INPUT -m recent --rcheck -j ACCEPT;raw -A PREROUTING -j REJECT":                "raw PREROUTING 1 (-j REJECT) stops packets",
		"raw -A PREROUTING -m recent --rcheck -j ACCEPT;raw -P PREROUTING":                        "raw PREROUTING, policy DROP may stop packets",
	} {
		var others []string
		if rules != "" {
			others = strings.Split(rules, ";")
		}
		s, w, _ := shop(t, others...)
		packets := []trace.Packet{packet(tcp, outside, clusterIP, 80), packet(tcp, outside, nodeIP, nodePort), packet(tcp, outside, clusterIP, 99)}
		var got []string
		for _, b := range trace.Barriers(s, packets, w, plan.OurChain) {
			got = append(got, b.String())
		}
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], want)) {
			t.Errorf("%s: found %q, want %q", rules, got, want)
		}
	}
}

func TestAFirewallOfNftablesIsFoundWhateverIptablesAccepts(t *testing.T) {
	s, w, _ := shop(t, "filter -I INPUT -j ACCEPT")
	k := state.ChainKey{Family: state.IPv4, Table: "nftables inet firewalld", Name: "filter_INPUT"}
	w.Rules.Chains[k] = state.ChainOf("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-i lo -j ACCEPT", "-j REJECT --reject-with icmpx")
	w.Rules.Bases[k] = state.Base{Hook: "INPUT", Priority: 10}
	got := trace.Barriers(s, []trace.Packet{packet(tcp, outside, clusterIP, 80)}, w, plan.OurChain)
	if len(got) != 1 || got[0].By != "nftables inet firewalld filter_INPUT 3" || !got[0].Sure || !strings.Contains(got[0].String(), "does not undo that") {
		t.Errorf("found %v", got)
	}
	w.Rules.Bases[k] = state.Base{Hook: "INPUT", Priority: 100} // behind IPVS
	if got := trace.Barriers(s, []trace.Packet{packet(tcp, outside, clusterIP, 80)}, w, plan.OurChain); len(got) > 0 {
		t.Errorf("found %v, which comes after IPVS", got)
	}
}
