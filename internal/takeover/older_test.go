// SPDX-License-Identifier: Apache-2.0

package takeover_test

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

func TestRulesThatKnowMarksOfAnOlderVersionStayAsTheyAre(t *testing.T) {
	want := state.ChainOf("-j RETURN")
	for name, rule := range map[string]string{
		"set from a set":   "-j SET --map-set KUBE-CLUSTER-MARK dst,dst --map-mark",
		"looked at":        "-m mark --mark 0x4b000000/0xff000000 -j RETURN",
		"others looked at": "-m mark ! --mark 0x4b000000/0xff000000 -j RETURN",
	} {
		have := state.ChainOf("-j KUBE-NO-LOCAL", rule)
		if got, interim := (takeover.Predecessors{}).Interim(have, want); !interim || got != have {
			t.Errorf("%s: %v, %v; want what is there", name, got, interim)
		}
	}
	for _, rule := range []string{"-m mark --mark 0x4000/0x4000 -j ACCEPT", "-j MARK --set-xmark 0x4000/0x4000"} {
		if got, interim := (takeover.Predecessors{}).Interim(state.ChainOf(rule), want); interim {
			t.Errorf("%s: stays, as %v", rule, got)
		}
	}
}

func TestChainsOfAnOlderVersionAreLeft(t *testing.T) {
	for k, want := range map[state.ChainKey]bool{
		{Family: state.IPv4, Table: state.Mangle, Name: "KUBE-SERVICES"}:    true,
		{Family: state.IPv6, Table: state.Mangle, Name: "KUBE-POSTROUTING"}: true,
		{Family: state.IPv4, Table: state.Mangle, Name: "KUBE-NODE-OUTPUT"}: false,
		{Family: state.IPv4, Table: state.NAT, Name: "KUBE-SERVICES"}:       false,
		{Family: state.IPv4, Table: state.NAT, Name: "KUBE-NODEPORTS"}:      true, // kube-proxy's
	} {
		if got := (takeover.Predecessors{}).Left(k); got != want {
			t.Errorf("%v is left: %v, want %v", k, got, want)
		}
	}
}

// Rules that refuse clients come last: other rules may lead these clients elsewhere.
func TestWhatRefusesComesLast(t *testing.T) {
	const refuses = "-m conntrack --ctstate NEW -m set --match-set KUBE-NO-LOCAL dst,dst -j DROP"
	want := state.ChainOf("-j KUBE-PROXY-FIREWALL", refuses, "-j RETURN")
	without := state.ChainOf("-j KUBE-PROXY-FIREWALL", "-j RETURN")
	for _, have := range []state.Chain{state.ChainOf("-j KUBE-PROXY-FIREWALL"), without} {
		if got, interim := (takeover.Predecessors{}).Interim(have, want); !interim || got != without {
			t.Errorf("of %v: %v, %v", have, got, interim)
		}
	}
	for _, have := range []state.Chain{{}, want} {
		if got, interim := (takeover.Predecessors{}).Interim(have, want); interim {
			t.Errorf("of %v: stays, as %v", have, got)
		}
	}
}
