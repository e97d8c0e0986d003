// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// golden is what iptables-save 1.8.9 (legacy) printed.
func golden(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// printed is a snapshot as iptables-save would print it, tables and chains in the order of their names.
func printed(tables snapshot) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		table := tables[name]
		b.WriteString("*" + string(name) + "\n")
		for _, chain := range slices.Sorted(maps.Keys(table.builtIn)) {
			policy := "-"
			if table.builtIn[chain] {
				policy = "ACCEPT"
			}
			b.WriteString(":" + chain + " " + policy + " [0:0]\n")
		}
		for _, chain := range slices.Sorted(maps.Keys(table.rules)) {
			for _, rule := range table.rules[chain] {
				if rule != "" {
					rule = " " + rule
				}
				b.WriteString("-A " + chain + rule + "\n")
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func TestNothingOfRealOutputIsLost(t *testing.T) {
	for _, name := range []string{"ipv4.save", "ipv6.save"} {
		text := golden(t, name)
		tables, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") {
				want = append(want, line)
			}
		}
		got := slices.Collect(strings.Lines(printed(tables)))
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-printed by the tool +read):\n%s", name, d)
		}
	}
}

func TestBuiltInChainsAreRecognized(t *testing.T) {
	tables, err := parse(golden(t, "ipv4.save"))
	if err != nil {
		t.Fatal(err)
	}
	nat := tables[state.NAT]
	for chain, builtIn := range map[string]bool{"PREROUTING": true, "POSTROUTING": true, "KUBE-SERVICES": false} {
		if got, ok := nat.builtIn[chain]; !ok || got != builtIn {
			t.Errorf("%s: built in %v, declared %v", chain, got, ok)
		}
	}
	want := []string{`-m comment --comment "kubernetes service portals" -j KUBE-SERVICES`}
	if got := nat.jumps("PREROUTING", "KUBE-SERVICES"); !slices.Equal(got, want) {
		t.Errorf("jumps %q, want %q", got, want)
	}
}

// The comment of the first rule holds a line break and what looks like a jump.
const lineBreak = `*nat
:OUTPUT ACCEPT [0:0]
:FOO - [0:0]
-A FOO -m comment --comment "line
-A OUTPUT -j KUBE-X \" q \' x" -j RETURN
-A FOO -m comment --comment "say \"hi\"
there"
-A OUTPUT -j FOO
COMMIT
`

func TestAQuotedLineBreakDoesNotEndARule(t *testing.T) {
	tables, err := parse(lineBreak)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"FOO": {
			"-m comment --comment \"line\n-A OUTPUT -j KUBE-X \\\" q \\' x\" -j RETURN",
			"-m comment --comment \"say \\\"hi\\\"\nthere\"",
		},
		"OUTPUT": {"-j FOO"},
	}
	if d := cmp.Diff(want, tables["nat"].rules); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
}

func TestOutputThatIsNotUnderstoodIsRefused(t *testing.T) {
	for _, text := range []string{
		"*nat\n:A - [0:0]\n",                    // cut off
		"*nat\n:A - [0:0]\n-A A -j",             // cut off
		"*nat\n:A - [0:0]\n-A B -j A\nCOMMIT\n", // undeclared chain
		"*nat\n:A - [0:0]\n:A - [0:0]\nCOMMIT\n",
		"*nat\n:A -\nCOMMIT\n",
		"*nat\n*filter\nCOMMIT\n",
		"*nat\nCOMMIT\n*nat\nCOMMIT\n",
		"*nat\n:A - [0:0]\n[1:2] -A A -j RETURN\nCOMMIT\n",
		"*nat\n-N A\nCOMMIT\n",
		":A - [0:0]\n",
		"COMMIT\n",
		"iptables: something\n",
	} {
		if tables, err := parse(text); err == nil {
			t.Errorf("%q is read as %+v", text, tables)
		}
	}
}

func TestTheTargetIsTheLastWord(t *testing.T) {
	for rule, want := range map[string]string{
		"-j KUBE-SERVICES": "KUBE-SERVICES",
		"-A KUBE -j X":     "X",
		`-m comment --comment "a b" -j KUBE-SERVICES`: "KUBE-SERVICES",
		`-m comment --comment "a -j KUBE-SERVICES"`:   "",
		`-m comment --comment word -g KUBE-SERVICES`:  "KUBE-SERVICES",
		`-p tcp -j DNAT --to-destination 192.0.2.1`:   "",
		`-m comment --comment "x -j \"" -j DROP`:      "DROP",
		"":                                            "",
	} {
		if got := target(rule); got != want {
			t.Errorf("target of %q is %q, want %q", rule, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(golden(f, "ipv4.save"))
	f.Add(golden(f, "ipv6.save"))
	f.Add(lineBreak)
	f.Fuzz(func(t *testing.T, text string) {
		tables, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(printed(tables))
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if !reflect.DeepEqual(tables, again) {
			t.Errorf("%q reads as\n%+v, and printed and read again as\n%+v", text, tables, again)
		}
	})
}

func TestLinesBelongToTheirPieces(t *testing.T) {
	s := scriptOf([]piece{
		{table: state.NAT, first: []string{":A - [0:0]"}, then: []string{"-A A -j B", "-A A -j RETURN"}},
		{table: state.NAT, first: []string{":B - [0:0]"}},
		{table: state.Filter, then: []string{"-I OUTPUT 1 -j A"}},
	})
	want := "*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A A -j RETURN\nCOMMIT\n*filter\n-I OUTPUT 1 -j A\nCOMMIT\n"
	if s.text != want {
		t.Errorf("script\n%swant\n%s", s.text, want)
	}
	nat, filter := origin{noPiece, 0, 2}, origin{noPiece, 2, 3}
	of := func(table origin, piece int) origin { return origin{piece, table.from, table.to} }
	for line, want := range []origin{
		{noPiece, 0, 3}, nat, of(nat, 0), of(nat, 1), of(nat, 0), of(nat, 0), nat, filter, of(filter, 2), filter, {noPiece, 0, 3},
	} {
		if got := s.at(line); got != want {
			t.Errorf("line %d is of %+v, want %+v", line, got, want)
		}
	}
}

func TestTheVersionIsReadFromATable(t *testing.T) {
	for saved, want := range map[string]struct {
		version version
		said    bool
	}{
		"# Generated by iptables-save v1.8.9 on Sat Nov 21 2026\n*filter\nCOMMIT\n":                {version{1, 8, 9}, true},
		"# Warning: other tables\n# Generated by ip6tables-save v1.10.0 (nf_tables) on\n*filter\n": {version{1, 10, 0}, true},
		"# Generated by iptables-save v1.8 on Sat\n":                                               {},
		"# Generated by iptables-save v9999999999.1.1 on Sat\n":                                    {},
		"": {},
	} {
		if v, said := versionIn(saved); v != want.version || said != want.said {
			t.Errorf("%q is of version %v, %v, want %v", saved, v, said, want)
		}
	}
	for v, old := range map[version]bool{
		{1, 7, 9}: true, {1, 8, 0}: false, {1, 6, 2}: true, {1, 10, 0}: false, {0, 9, 9}: true, {2, 0, 0}: false,
	} {
		if v.before(oldest()) != old {
			t.Errorf("version %v: too old is %v, want %v", v, !old, old)
		}
	}
}

func TestToolsErrorsAreOneClearLine(t *testing.T) {
	for _, c := range []struct {
		stderr  string
		text    string
		line    int
		missing bool
	}{
		{
			"iptables-restore v1.8.9 (legacy): Couldn't load target `KUBE-NOPE':No such file or directory\n\n" +
				"Error occurred at line: 5\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
			"Couldn't load target `KUBE-NOPE':No such file or directory", 5, true,
		},
		{
			"iptables-restore v1.8.9 (legacy): Set NOPE doesn't exist.\n\nError occurred at line: 3\n",
			"Set NOPE doesn't exist.", 3, true,
		},
		{"ip6tables-restore: line 7 failed\n", "the kernel refused the change (its log may say why)", 7, false},
		{
			"iptables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file or directory): rule in chain A\n",
			"line 3: RULE_APPEND failed (No such file or directory): rule in chain A", 3, true,
		},
		{
			"Can't lock /run/xtables.lock: Resource temporarily unavailable\n" +
				"Another app is currently holding the xtables lock. Stopped waiting after 1s.\n",
			"Can't lock /run/xtables.lock: Resource temporarily unavailable; " +
				"Another app is currently holding the xtables lock. Stopped waiting after 1s.", 0, false,
		},
		{"", "exit status 2", 0, false},
	} {
		e := explain("iptables-restore", c.stderr, 2)
		if e.Error() != "iptables-restore: "+c.text || e.line != c.line || errors.Is(e, fs.ErrNotExist) != c.missing {
			t.Errorf("%q reads %q (line %d, missing %v), want %q (line %d, missing %v)",
				c.stderr, e, e.line, errors.Is(e, fs.ErrNotExist), c.text, c.line, c.missing)
		}
	}
}

// The exit status of a busy lock is also that of iptables-nft for a line that the kernel refuses.
func TestOnlyALockMakesAToolBusy(t *testing.T) {
	for stderr, want := range map[string]bool{
		"Another app is currently holding the xtables lock. Stopped waiting after 1s.\n":                          true,
		"iptables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain A\n": false,
	} {
		if got := explain("iptables-restore", stderr, exitBusy).busy(); got != want {
			t.Errorf("%q: busy is %v", stderr, got)
		}
	}
}
