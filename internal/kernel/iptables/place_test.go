// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestOnlyWhatDecidesComesBefore(t *testing.T) {
	const chains = `*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-OTHER - [0:0]
:EMPTY - [0:0]
:LOGS - [0:0]
:SENDS - [0:0]
:CIRCLE - [0:0]
-A KUBE-OTHER -j ACCEPT
-A LOGS -m limit --limit 1/sec -j LOG --log-prefix "-j DNAT "
-A LOGS -j EMPTY
-A LOGS -j RETURN
-A SENDS -p tcp -j LOGS
-A SENDS -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.9:80
-A CIRCLE -j CIRCLE
`
	for before, decides := range map[string]bool{
		"-p tcp":                                false,
		"-j MARK --set-xmark 0x1/0x1":           false,
		`-m comment --comment "-j DNAT" -j LOG`: false,
		`-m comment --comment "a \" -j DNAT" -j CONNMARK --save-mark`: false,
		"-j EMPTY":                            false,
		"-j LOGS":                             false,
		"-j CIRCLE":                           false,
		"-j KUBE-OTHER":                       false, // ours
		"-g LOGS":                             true,
		"-j SENDS":                            true,
		"-d 192.0.2.1/32 -j RETURN":           true,
		"-j ACCEPT":                           true,
		"-p tcp -j REDIRECT --to-ports 15006": true,
		"-j UNHEARD-OF":                       true,
	} {
		tables, err := parse(chains + "-A PREROUTING " + before + "\n-A PREROUTING -j KUBE-SERVICES\n-A PREROUTING -j ACCEPT\nCOMMIT\n")
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if decides {
			want = before
		}
		if got := tables[state.NAT].behind("PREROUTING", "KUBE-SERVICES", ours); got != want {
			t.Errorf("behind %q before it: %q, want %q", before, got, want)
		}
	}
}

func TestAJumpComesBackBeforeRulesOfOthers(t *testing.T) {
	c := open(t)
	desired := commentJump("kubernetes service portals", "KUBE-A")
	testkit.AddAll(t, c.Chains(), chainTable{chainOf("KUBE-A"): {}})
	late := state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "POSTROUTING", To: "KUBE-A"}
	testkit.AddAll(t, c.Jumps(), jumpTable{jumpTo("KUBE-A"): desired, late: desired})
	const theirs = "-p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.9:80"
	for _, rule := range []string{"OUTPUT " + theirs, "OUTPUT -j MARK --set-mark 1", "POSTROUTING -j ACCEPT"} {
		testkit.Tool(t, append([]string{"iptables", "-t", "nat", "-I"}, strings.Fields(rule)...)...)
	}
	behind := state.Jump{Rule: desired.Rule, Behind: theirs}
	equal(t, c.Jumps(), jumpTable{jumpTo("KUBE-A"): behind, late: desired}) // in POSTROUTING no jump has to come first

	stays := jumpDelta{Update: []diff.Change[state.JumpKey, state.Jump]{{Key: jumpTo("KUBE-A"), Old: behind, New: behind}}}
	testkit.Apply(t, c.Jumps(), stays, 0)
	equal(t, c.Jumps(), jumpTable{jumpTo("KUBE-A"): behind, late: desired})

	before := c.Forks()
	testkit.Apply(t, c.Jumps(), jumpDelta{Update: []diff.Change[state.JumpKey, state.Jump]{{Key: jumpTo("KUBE-A"), Old: behind, New: desired}}}, 0)
	if forks := c.Forks() - before; forks != 2 {
		t.Errorf("%d runs of tools, want one to read and one to write: there is no moment without the jump", forks)
	}
	want := "-A OUTPUT " + desired.Rule + "\n-A OUTPUT -j MARK --set-xmark 0x1/0xffffffff\n-A OUTPUT " + theirs + "\n"
	if got := testkit.RulesOf(testkit.Tool(t, "iptables-save", "-t", "nat")); !strings.Contains(got, want) {
		t.Errorf("rules\n%swant\n%s", got, want)
	}
	equal(t, c.Jumps(), jumpTable{jumpTo("KUBE-A"): desired, late: desired})
}
