// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// counted checks how many tools work runs.
func counted(t *testing.T, c *Conn, want int, what string, work func()) {
	t.Helper()
	before := c.Forks()
	work()
	if got := c.Forks() - before; got != want {
		t.Errorf("%s took %d forks, want %d", what, got, want)
	}
}

func TestAListTakesOneForkAFamilyAndAChangeTwo(t *testing.T) {
	c := open(t)
	chains := chainTable{
		chainOf("KUBE-A"): state.ChainOf("-j KUBE-B"), chainOf("KUBE-B"): state.ChainOf("-j RETURN"),
		chainOf("KUBE-C"): {}, {Family: state.IPv4, Table: state.Mangle, Name: "KUBE-A"}: {},
	}
	jumps := jumpTable{jumpTo("KUBE-A"): {Rule: "-j KUBE-A"}, jumpTo("KUBE-B"): {Rule: "-j KUBE-B"}}
	counted(t, c, 2, "writing chains", func() { testkit.AddAll(t, c.Chains(), chains) })
	counted(t, c, 2, "writing jumps", func() { testkit.AddAll(t, c.Jumps(), jumps) })
	counted(t, c, 2, "listing chains", func() { equal(t, c.Chains(), chains) })
	counted(t, c, 2, "listing jumps", func() { equal(t, c.Jumps(), jumps) })
	counted(t, c, 2, "removing jumps", func() { removeAll(t, c.Jumps(), jumps) })
	counted(t, c, 2, "removing chains", func() { removeAll(t, c.Chains(), chains) })
	counted(t, c, 0, "changing nothing", func() {
		testkit.Apply(t, c.Chains(), chainDelta{}, 0)
		testkit.Apply(t, c.Jumps(), jumpDelta{}, 0)
	})
	equal(t, c.Chains(), chainTable{})
	equal(t, c.Jumps(), jumpTable{})
}

// together adds chains and jumps in one go, and returns what failed of both.
func together(ctx context.Context, t *testing.T, c *Conn, chains chainTable, jumps jumpTable) kernel.Rules {
	t.Helper()
	r, ok := c.Chains().(kernel.Coupled).SetWith(ctx, chainDelta{Add: testkit.Rows(chains)}, c.Jumps(), jumpDelta{Add: testkit.Rows(jumps)})
	if !ok {
		t.Fatal("chains and jumps of one connection are not coupled")
	}
	return r
}

func TestAColdStartReadsAndWritesEachFamilyOnce(t *testing.T) {
	c := open(t)
	want := 2
	if c.installed(nft) && c.installed(legacy) {
		want += 4 // each variant is asked which is in use
	}
	if c.Forks() != want {
		t.Errorf("opening two families took %d forks, want %d", c.Forks(), want)
	}
	for _, f := range c.families {
		makeSets(t, f)
	}
	chains, jumps := bothFamilies()
	round := kernel.NewRound(context.Background())
	counted(t, c, 4, "a round of listing and writing", func() {
		if rows, err := c.Chains().List(round); err != nil || len(rows) > 0 {
			t.Errorf("%v, %v", rows, err)
		}
		if rows, err := c.Jumps().List(round); err != nil || len(rows) > 0 {
			t.Errorf("%v, %v", rows, err)
		}
		if r := together(round, t, c, chains, jumps); len(r.Chains.Failed)+len(r.Jumps.Failed)+r.Chains.Drift+r.Jumps.Drift > 0 {
			t.Errorf("%+v", r)
		}
	})
	counted(t, c, 2, "listing what was written in the same round", func() {
		got, err := c.Chains().List(round)
		if d := cmp.Diff(chains, got); err != nil || d != "" {
			t.Errorf("%v, %s", err, d)
		}
		rows, err := c.Jumps().List(round)
		if d := cmp.Diff(jumps, rows); err != nil || d != "" {
			t.Errorf("%v, %s", err, d)
		}
	})
}

func TestWhatOthersDoIsSeenInTheNextRound(t *testing.T) {
	c := open(t)
	key := chainOf("KUBE-A")
	lists := func(ctx context.Context, want int) {
		t.Helper()
		if rows, err := c.Chains().List(ctx); err != nil || len(rows) != want {
			t.Errorf("%v, %v, want %d chains", rows, err, want)
		}
	}
	first, second := kernel.NewRound(context.Background()), kernel.NewRound(context.Background())
	lists(first, 0)
	testkit.Tool(t, "iptables", "-t", "nat", "-N", "KUBE-A")
	lists(second, 1)
	lists(context.Background(), 1)

	lists(first, 1)
	testkit.Tool(t, "iptables", "-t", "nat", "-X", "KUBE-A")
	r := c.Chains().Apply(first, chainDelta{Update: []diff.Change[state.ChainKey, state.Chain]{{Key: key}}})
	if len(r.Failed) > 0 || r.Drift > 0 {
		t.Errorf("a change upon the look of its round: %+v", r)
	}
	testkit.Tool(t, "iptables", "-t", "nat", "-X", "KUBE-A")
	r = c.Chains().Apply(first, chainDelta{Update: []diff.Change[state.ChainKey, state.Chain]{{Key: key}}})
	if len(r.Failed) > 0 || r.Drift != 1 {
		t.Errorf("a second change in a round takes a look of its own and finds the chain gone; got %+v", r)
	}
}

func TestForeignRulesMadeWithinARoundSurvive(t *testing.T) {
	c := open(t)
	round := kernel.NewRound(context.Background())
	for _, s := range []func() error{
		func() error { _, err := c.Chains().List(round); return err },
		func() error { _, err := c.Jumps().List(round); return err },
	} {
		if err := s(); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Tool(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-o", "lo", "-j", "ACCEPT")
	testkit.Tool(t, "iptables", "-t", "nat", "-N", "OTHERS")
	together(round, t, c, chainTable{chainOf("KUBE-A"): {}}, jumpTable{jumpTo("KUBE-A"): {Rule: "-j KUBE-A"}})
	save := testkit.Tool(t, "iptables-save", "-t", "nat")
	if want := "-A OUTPUT -j KUBE-A\n-A OUTPUT -o lo -j ACCEPT\n"; testkit.RulesOf(save) != want || !strings.Contains(save, ":OTHERS ") {
		t.Errorf("rules are\n%s", save)
	}
}

// TestABadRowInOneTableHarmsNoOther has one bad row in each of several places of a script that several tables share. A
// jump of a table that was committed before the refusal must not be made twice.
func TestABadRowInOneTableHarmsNoOther(t *testing.T) {
	in := func(table state.RuleTable, name string) state.ChainKey {
		return state.ChainKey{Family: state.IPv4, Table: table, Name: name}
	}
	jump := func(table state.RuleTable, name string) state.JumpKey {
		return state.JumpKey{Family: state.IPv4, Table: table, From: "OUTPUT", To: name}
	}
	onlyFilter := state.ChainOf("-j REJECT --reject-with icmp-port-unreachable") // which the kernel refuses elsewhere at COMMIT
	for name, bad := range map[string]chainTable{
		"none":                        {},
		"a set that is not there":     {in(state.Filter, "KUBE-BAD"): state.ChainOf("-m set --match-set NOPE src -j RETURN")},
		"one in each table":           {in(state.NAT, "KUBE-BAD"): state.ChainOf("--no"), in(state.Mangle, "KUBE-BAD"): state.ChainOf("--no")},
		"refused by the kernel":       {in(state.Mangle, "KUBE-BAD"): onlyFilter},
		"refused by the kernel first": {in(state.NAT, "KUBE-BAD"): onlyFilter, in(state.Filter, "KUBE-BAD"): state.ChainOf("--no")},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			chains, jumps := chainTable{}, jumpTable{}
			for _, table := range ruleTables() {
				chains[in(table, "KUBE-A")] = state.ChainOf("-j KUBE-B", "-j RETURN")
				chains[in(table, "KUBE-B")] = state.ChainOf("-p tcp -j RETURN")
				jumps[jump(table, "KUBE-A")] = state.Jump{Rule: "-j KUBE-A"}
			}
			all, allJumps := chainTable{}, jumpTable{}
			for _, rows := range []chainTable{chains, bad} {
				for k, v := range rows {
					all[k] = v
				}
			}
			for k, v := range jumps {
				allJumps[k] = v
			}
			for k := range bad {
				allJumps[jump(k.Table, k.Name)] = state.Jump{Rule: "-j KUBE-BAD"}
			}
			r := together(context.Background(), t, c, all, allJumps)
			for k := range bad {
				if r.Chains.Failed[k] == nil || r.Jumps.Failed[jump(k.Table, k.Name)] == nil {
					t.Errorf("%v or the jump to it did not fail", k)
				}
			}
			if len(r.Chains.Failed) != len(bad) || len(r.Jumps.Failed) != len(bad) || r.Chains.Drift+r.Jumps.Drift > 0 {
				t.Errorf("%+v", r)
			}
			equal(t, c.Chains(), chains)
			equal(t, c.Jumps(), jumps)
			for _, table := range ruleTables() {
				if got, want := testkit.RulesOf(testkit.Tool(t, "iptables-save", "-t", string(table))), "-A OUTPUT -j KUBE-A\n"; strings.Count(got, want) != 1 {
					t.Errorf("rules of %s, want one jump:\n%s", table, got)
				}
			}
		})
	}
}

func TestOnlyJumpsOfTheSameKernelAreCoupled(t *testing.T) {
	c := open(t)
	other, err := Open(context.Background(), ours, state.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Chains().(kernel.Coupled).SetWith(context.Background(), chainDelta{}, other.Jumps(), jumpDelta{}); ok {
		t.Error("jumps of another connection were taken along")
	}
}
