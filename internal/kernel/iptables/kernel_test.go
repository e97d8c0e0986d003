// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

type (
	chainTable = map[state.ChainKey]state.Chain
	chainDelta = diff.Delta[state.ChainKey, state.Chain]
	jumpTable  = map[state.JumpKey]state.Jump
	jumpDelta  = diff.Delta[state.JumpKey, state.Jump]
)

func ours(chain string) bool { return strings.HasPrefix(chain, "KUBE-") }

// open is a connection for both families in a new network namespace.
func open(t *testing.T) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open(context.Background(), ours, state.IPv4, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func removeAll[K, V comparable](t *testing.T, s kernel.Store[K, V], table map[K]V) {
	t.Helper()
	testkit.Apply(t, s, diff.Delta[K, V]{Remove: testkit.Rows(table)}, 0)
}

func equal[K, V comparable](t *testing.T, s kernel.Store[K, V], want map[K]V) {
	t.Helper()
	if d := cmp.Diff(want, testkit.Listed(t, s)); d != "" {
		t.Errorf("rows differ (-want +got):\n%s", d)
	}
}

func wantText(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
}

// chainOf is the key of a chain in IPv4 nat.
func chainOf(name string) state.ChainKey {
	return state.ChainKey{Family: state.IPv4, Table: state.NAT, Name: name}
}

// jumpTo is the key of the jump from OUTPUT to it.
func jumpTo(name string) state.JumpKey {
	return state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "OUTPUT", To: name}
}

func commentJump(comment, name string) state.Jump {
	return state.Jump{Rule: `-m comment --comment "` + comment + `" -j ` + name}
}

func TestListingMakesNoTable(t *testing.T) {
	c := open(t)
	equal(t, c.Chains(), chainTable{})
	equal(t, c.Jumps(), jumpTable{})
	if save := testkit.Tool(t, "iptables-save"); strings.Contains(save, "*nat") || strings.Contains(save, "*mangle") {
		t.Errorf("tables were made:\n%s", save)
	}
}

func TestForeignChainsAndRulesAreLeftAlone(t *testing.T) {
	c := open(t)
	for _, rule := range []string{
		"-t nat -N CNI-HOSTPORT", "-t nat -A CNI-HOSTPORT -p tcp --dport 8080 -j DNAT --to-destination 192.0.2.1:80",
		"-t nat -A PREROUTING -j CNI-HOSTPORT", "-t nat -A OUTPUT -o lo -j ACCEPT", "-A INPUT -i eth9 -j DROP",
		"-t mangle -A PREROUTING -j MARK --set-mark 7",
	} {
		testkit.Tool(t, append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
	testkit.Tool(t, "iptables", "-t", "nat", "-A", "CNI-HOSTPORT", "-m", "comment", "--comment", "a\n-A OUTPUT -j KUBE-FAKE", "-j", "RETURN")
	before := testkit.RulesOf(testkit.Tool(t, "iptables-save"))

	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		makeSets(t, f)
	}
	chains, jumps := bothFamilies()
	testkit.AddAll(t, c.Chains(), chains)
	testkit.AddAll(t, c.Jumps(), jumps)
	equal(t, c.Chains(), chains)
	equal(t, c.Jumps(), jumps)
	removeAll(t, c.Jumps(), jumps)
	removeAll(t, c.Chains(), chains)
	equal(t, c.Chains(), chainTable{})
	if after := testkit.RulesOf(testkit.Tool(t, "iptables-save")); after != before {
		t.Errorf("rules were\n%sand are now\n%s", before, after)
	}
}

func TestAChainThatIsNotOursIsNotWritten(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-o", "lo", "-j", "ACCEPT")
	before := testkit.RulesOf(testkit.Tool(t, "iptables-save"))
	r := c.Chains().Apply(context.Background(), chainDelta{
		Add:    []diff.Row[state.ChainKey, state.Chain]{{Key: chainOf("OUTPUT")}},
		Remove: []diff.Row[state.ChainKey, state.Chain]{{Key: chainOf("PREROUTING")}},
	})
	wantText(t, r.Failed[chainOf("OUTPUT")], "none of ours")
	wantText(t, r.Failed[chainOf("PREROUTING")], "none of ours")
	j := c.Jumps().Apply(context.Background(), jumpDelta{Add: []diff.Row[state.JumpKey, state.Jump]{
		{Key: jumpTo("FOREIGN"), Value: state.Jump{Rule: "-j FOREIGN"}},
		{Key: jumpTo("KUBE-A"), Value: state.Jump{Rule: "-j KUBE-B"}},
		{Key: state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "KUBE-X", To: "KUBE-A"}, Value: state.Jump{Rule: "-j KUBE-A"}},
	}})
	wantText(t, j.Failed[jumpTo("FOREIGN")], "none of ours")
	wantText(t, j.Failed[jumpTo("KUBE-A")], "does not go there")
	if len(j.Failed) != 3 {
		t.Errorf("failed: %v, want 3", j.Failed)
	}
	if after := testkit.RulesOf(testkit.Tool(t, "iptables-save")); after != before {
		t.Errorf("rules were\n%sand are now\n%s", before, after)
	}
}

func TestAChainIsRewrittenAndItsNeighboursStay(t *testing.T) {
	c := open(t)
	table := chainTable{
		chainOf("KUBE-A"): state.ChainOf("-p tcp -j RETURN", "-p udp -j ACCEPT", "-j KUBE-B"),
		chainOf("KUBE-B"): state.ChainOf("-j ACCEPT"),
	}
	testkit.AddAll(t, c.Chains(), table)
	next := state.ChainOf("-j KUBE-B", "-p tcp -j RETURN")
	testkit.Apply(t, c.Chains(), chainDelta{Update: []diff.Change[state.ChainKey, state.Chain]{
		{Key: chainOf("KUBE-A"), Old: table[chainOf("KUBE-A")], New: next},
	}}, 0)
	table[chainOf("KUBE-A")] = next
	equal(t, c.Chains(), table)
}

func TestChainDriftIsCounted(t *testing.T) {
	c := open(t)
	row := diff.Row[state.ChainKey, state.Chain]{Key: chainOf("KUBE-A"), Value: state.ChainOf("-j RETURN")}
	change := diff.Change[state.ChainKey, state.Chain]{Key: row.Key, New: row.Value}
	update := chainDelta{Update: []diff.Change[state.ChainKey, state.Chain]{change}}
	add := chainDelta{Add: []diff.Row[state.ChainKey, state.Chain]{row}}
	remove := chainDelta{Remove: []diff.Row[state.ChainKey, state.Chain]{row}}
	for _, step := range []struct {
		delta chainDelta
		drift int
	}{{remove, 1}, {update, 1}, {update, 0}, {add, 1}, {remove, 0}, {add, 0}} {
		testkit.Apply(t, c.Chains(), step.delta, step.drift)
	}
	equal(t, c.Chains(), chainTable{row.Key: row.Value})
}

func TestABadChainDoesNotHarmTheOthers(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "iptables", "-t", "nat", "-N", "KUBE-OLD")
	testkit.Tool(t, "iptables", "-t", "nat", "-A", "KUBE-OLD", "-j", "RETURN")
	good := chainTable{
		chainOf("KUBE-A"):     state.ChainOf("-j KUBE-B", "-j RETURN"),
		chainOf("KUBE-B"):     state.ChainOf("-p tcp -j ACCEPT"),
		chainOf("KUBE-ZEBRA"): {},
		{Family: state.IPv6, Table: state.NAT, Name: "KUBE-A"}: state.ChainOf("-j RETURN"),
	}
	all := chainTable{
		chainOf("KUBE-NOSET"):  state.ChainOf("-j RETURN", "-m set --match-set NOPE src -j RETURN"),
		chainOf("KUBE-OLD"):    state.ChainOf("-j KUBE-NOPE"),
		chainOf("KUBE-SYNTAX"): state.ChainOf("--nonsense"),
		chainOf("KUBE-NEEDS"):  state.ChainOf("-j KUBE-SYNTAX"),
	}
	for k, v := range good {
		all[k] = v
	}
	r := c.Chains().Apply(context.Background(), chainDelta{Add: testkit.Rows(all)})
	wantText(t, r.Failed[chainOf("KUBE-NOSET")], "writing chain IPv4 nat KUBE-NOSET", "Set NOPE doesn't exist")
	wantText(t, r.Failed[chainOf("KUBE-OLD")], "KUBE-NOPE")
	wantText(t, r.Failed[chainOf("KUBE-SYNTAX")], "--nonsense")
	wantText(t, r.Failed[chainOf("KUBE-NEEDS")], "KUBE-SYNTAX")
	for _, name := range []string{"KUBE-NOSET", "KUBE-OLD", "KUBE-NEEDS"} {
		if !errors.Is(r.Failed[chainOf(name)], fs.ErrNotExist) {
			t.Errorf("%s: no fs.ErrNotExist in %v", name, r.Failed[chainOf(name)])
		}
	}
	if len(r.Failed) != 4 {
		t.Errorf("failed: %v, want 4", r.Failed)
	}
	good[chainOf("KUBE-OLD")] = state.ChainOf("-j RETURN") // as it was
	equal(t, c.Chains(), good)
}

func TestAChainThatOnlyTheKernelRefusesDoesNotHarmTheOthers(t *testing.T) {
	c := open(t)
	good := chainTable{
		chainOf("KUBE-A"): state.ChainOf("-j KUBE-M"), chainOf("KUBE-M"): state.ChainOf("-j KUBE-Z"), chainOf("KUBE-Z"): state.ChainOf("-j RETURN"),
	}
	all := chainTable{chainOf("KUBE-BAD"): state.ChainOf("-j REJECT --reject-with icmp-port-unreachable")} // only for filter
	for k, v := range good {
		all[k] = v
	}
	r := c.Chains().Apply(context.Background(), chainDelta{Add: testkit.Rows(all)})
	refusal := "the kernel refused the change"
	if strings.Contains(testkit.Tool(t, "iptables", "--version"), "nf_tables") {
		refusal = "RULE_APPEND failed (Invalid argument): rule in chain KUBE-BAD"
	}
	wantText(t, r.Failed[chainOf("KUBE-BAD")], "writing chain IPv4 nat KUBE-BAD: iptables-restore: ", refusal)
	if len(r.Failed) != 1 {
		t.Errorf("failed: %v, want 1", r.Failed)
	}
	equal(t, c.Chains(), good)
}

func TestAChainInUseIsNotRemoved(t *testing.T) {
	c := open(t)
	table := chainTable{
		chainOf("KUBE-A"): state.ChainOf("-j KUBE-B"), chainOf("KUBE-B"): state.ChainOf("-j KUBE-C"),
		chainOf("KUBE-C"): state.ChainOf("-j RETURN"), chainOf("KUBE-D"): state.ChainOf("-j RETURN"),
	}
	testkit.AddAll(t, c.Chains(), table)
	testkit.AddAll(t, c.Jumps(), jumpTable{jumpTo("KUBE-A"): {Rule: "-j KUBE-A"}})
	r := c.Chains().Apply(context.Background(), chainDelta{Remove: testkit.Rows(table)})
	wantText(t, r.Failed[chainOf("KUBE-A")], "removing chain IPv4 nat KUBE-A", "chain OUTPUT still goes to it")
	wantText(t, r.Failed[chainOf("KUBE-B")], "chain KUBE-A still goes to it")
	wantText(t, r.Failed[chainOf("KUBE-C")], "chain KUBE-B still goes to it")
	delete(table, chainOf("KUBE-D"))
	equal(t, c.Chains(), table)
}

func TestJumpsArePutBackAfterAFlush(t *testing.T) {
	c := open(t)
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		makeSets(t, f)
	}
	chains, jumps := bothFamilies()
	testkit.AddAll(t, c.Chains(), chains)
	testkit.AddAll(t, c.Jumps(), jumps)
	testkit.Tool(t, "iptables", "-t", "nat", "-F")
	testkit.Apply(t, c.Chains(), diff.Of(testkit.Listed(t, c.Chains()), chains, state.ChainKey.Compare), 0)
	d := diff.Of(testkit.Listed(t, c.Jumps()), jumps, state.JumpKey.Compare)
	if len(d.Add) != 3 || d.Len() != 3 {
		t.Errorf("after a flush of nat %+v is to be done, want 3 jumps added", d)
	}
	testkit.Apply(t, c.Jumps(), d, 0)
	equal(t, c.Chains(), chains)
	equal(t, c.Jumps(), jumps)
}

func TestAJumpIsMadeOnTopAndStaysOne(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-o", "lo", "-j", "ACCEPT")
	testkit.AddAll(t, c.Chains(), chainTable{chainOf("KUBE-A"): {}})
	desired := commentJump("kubernetes service portals", "KUBE-A")
	row := []diff.Row[state.JumpKey, state.Jump]{{Key: jumpTo("KUBE-A"), Value: desired}}
	testkit.Apply(t, c.Jumps(), jumpDelta{Add: row}, 0)
	testkit.Apply(t, c.Jumps(), jumpDelta{Add: row}, 1)
	want := "-A OUTPUT " + desired.Rule + "\n-A OUTPUT -o lo -j ACCEPT\n"
	if got := testkit.RulesOf(testkit.Tool(t, "iptables-save", "-t", "nat")); got != want {
		t.Errorf("rules\n%swant\n%s", got, want)
	}
	testkit.Apply(t, c.Jumps(), jumpDelta{Remove: row}, 0)
	testkit.Apply(t, c.Jumps(), jumpDelta{Remove: row}, 1)
	testkit.Apply(t, c.Jumps(), jumpDelta{Update: []diff.Change[state.JumpKey, state.Jump]{{Key: jumpTo("KUBE-A"), New: desired}}}, 1)
	equal(t, c.Jumps(), jumpTable{jumpTo("KUBE-A"): desired})
}

func TestSeveralJumpsBecomeOne(t *testing.T) {
	c := open(t)
	key, desired := jumpTo("KUBE-A"), commentJump("kubernetes service portals", "KUBE-A")
	testkit.AddAll(t, c.Chains(), chainTable{chainOf("KUBE-A"): {}})
	twice := func() {
		testkit.Tool(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-A")
		testkit.Tool(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-A")
	}
	twice()
	equal(t, c.Jumps(), jumpTable{key: desired}) // a copy does no harm
	testkit.Tool(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-g", "KUBE-A")
	both := state.Jump{Rule: desired.Rule + "\n-p tcp -g KUBE-A"}
	equal(t, c.Jumps(), jumpTable{key: both})

	testkit.Apply(t, c.Jumps(), jumpDelta{Update: []diff.Change[state.JumpKey, state.Jump]{{Key: key, Old: both, New: desired}}}, 0)
	if got, want := testkit.RulesOf(testkit.Tool(t, "iptables-save", "-t", "nat")), "-A OUTPUT "+desired.Rule+"\n"; got != want {
		t.Errorf("rules\n%swant\n%s", got, want)
	}
	twice()
	testkit.Apply(t, c.Jumps(), jumpDelta{Remove: []diff.Row[state.JumpKey, state.Jump]{{Key: key, Value: desired}}}, 0)
	equal(t, c.Jumps(), jumpTable{})
}

func TestAJumpWithAnotherTextIsReplaced(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Chains(), chainTable{chainOf("KUBE-A"): {}})
	key := jumpTo("KUBE-A")
	testkit.AddAll(t, c.Jumps(), jumpTable{key: commentJump(`it\'s old`, "KUBE-A")})
	desired := commentJump("new one", "KUBE-A")
	testkit.Apply(t, c.Jumps(), jumpDelta{Update: []diff.Change[state.JumpKey, state.Jump]{{Key: key, New: desired}}}, 0)
	equal(t, c.Jumps(), jumpTable{key: desired})
}

func TestABadJumpDoesNotHarmTheOthers(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Chains(), chainTable{chainOf("KUBE-A"): {}})
	good := jumpTable{jumpTo("KUBE-A"): {Rule: "-j KUBE-A"}}
	all := jumpTable{jumpTo("KUBE-MISSING"): {Rule: "-j KUBE-MISSING"}, jumpTo("KUBE-A"): {Rule: "-j KUBE-A"}}
	r := c.Jumps().Apply(context.Background(), jumpDelta{Add: testkit.Rows(all)})
	err := r.Failed[jumpTo("KUBE-MISSING")]
	wantText(t, err, "writing jump IPv4 nat OUTPUT -> KUBE-MISSING", "KUBE-MISSING")
	if len(r.Failed) != 1 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("failed: %v, want one with fs.ErrNotExist", r.Failed)
	}
	equal(t, c.Jumps(), good)
}

func TestAFamilyThatWasNotOpenedFails(t *testing.T) {
	testkit.Namespace(t)
	c, err := Open(context.Background(), ours, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	key := chainOf("KUBE-A")
	r := c.Chains().Apply(context.Background(), chainDelta{Add: []diff.Row[state.ChainKey, state.Chain]{{Key: key}}})
	wantText(t, r.Failed[key], "writing chain IPv4 nat KUBE-A", "not among the opened families")
}

func TestACancelledContextFailsAllRows(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := c.Chains().Apply(ctx, chainDelta{Add: []diff.Row[state.ChainKey, state.Chain]{{Key: chainOf("KUBE-A")}, {Key: chainOf("KUBE-B")}}})
	if len(r.Failed) != 2 || !errors.Is(r.Failed[chainOf("KUBE-B")], context.Canceled) {
		t.Errorf("failed: %v, want both rows as canceled", r.Failed)
	}
	if _, err := c.Jumps().List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}
