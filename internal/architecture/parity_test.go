// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parity says where each behaviour of kube-proxy is tested, or why kube-ipvs does not have it.
const (
	parity     = "docs/parity.md"
	behaviours = 259
)

func TestEveryBehaviourOfKubeProxyIsTestedOrExcused(t *testing.T) {
	c := sources(t)
	report(t, unproven(string(c.texts[parity]), behaviours, c.evidence()))
}

func TestTheDocumentsNameTheKubeProxyThatIsTested(t *testing.T) {
	c := sources(t)
	module, err := os.ReadFile(root + "/e2e/upstream/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	built := regexp.MustCompile(`k8s\.io/kubernetes v((\d+\.\d+)\.\d+)\n`).FindStringSubmatch(string(module))
	if built == nil {
		t.Fatal("e2e/upstream builds no Kubernetes")
	}
	for name, want := range map[string]string{parity: "what its version " + built[1] + " does", "README.md": "of Kubernetes " + built[2]} {
		if !strings.Contains(string(c.texts[name]), want) {
			t.Errorf("%s does not say %q", name, want)
		}
	}
}

// notBuilt returns the features that behaviours may wait for.
func notBuilt() []string {
	return []string{"API server", "configuration", "metrics and healthz", "cleanup"}
}

// evidence returns what behaviours may name: files by path, and tests as in "internal/diff TestOf".
func (c checkout) evidence() map[string]bool {
	there := map[string]bool{}
	for name := range c.texts {
		there[name] = true
	}
	for _, f := range c.files {
		for _, name := range tests(f) {
			there[f.folder()+" "+name] = true
		}
	}
	return there
}

// tests returns the names of a file's tests.
func tests(f file) []string {
	var names []string
	for _, d := range nodes[*ast.FuncDecl](f) {
		name := d.Name.Name
		if f.isTest() && d.Recv == nil && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")) {
			names = append(names, name)
		}
	}
	return names
}

// behaviour is a row of a table: | 1 | what kube-proxy does | where it is tested |
type behaviour struct {
	line        int
	number      int
	what, where string
}

// unproven finds missing and repeated numbers, and rows that name no test and do not say why.
func unproven(text string, count int, there map[string]bool) []problem {
	rows, found := behaviourRows(text)
	seen := map[int]int{}
	for _, b := range rows {
		if first := seen[b.number]; first > 0 {
			found = append(found, b.problem("is in line %d too", first))
		} else if b.number < 1 || b.number > count {
			found = append(found, b.problem("is not one of 1..%d", count))
		}
		seen[b.number] = b.line
		found = append(found, b.check(there)...)
	}
	for n := 1; n <= count; n++ {
		if seen[n] == 0 {
			found = append(found, problem{parity, fmt.Sprintf("behaviour %d is missing", n)})
		}
	}
	return found
}

func (b behaviour) problem(format string, args ...any) problem {
	return problem{fmt.Sprintf("%s:%d", parity, b.line), fmt.Sprintf("behaviour %d ", b.number) + fmt.Sprintf(format, args...)}
}

// behaviourRows returns all rows that begin with a number.
func behaviourRows(text string) ([]behaviour, []problem) {
	var rows []behaviour
	var found []problem
	for i, line := range strings.Split(text, "\n") {
		inside, isRow := strings.CutPrefix(line, "| ")
		cells := strings.Split(strings.TrimSuffix(inside, " |"), " | ")
		n, err := strconv.Atoi(cells[0])
		if !isRow || err != nil {
			continue
		}
		b := behaviour{line: i + 1, number: n}
		if len(cells) != 3 {
			found = append(found, b.problem("has %d cells, want number, behaviour and where", len(cells)))
		} else {
			b.what, b.where = strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		}
		rows = append(rows, b)
	}
	return rows, found
}

// check finds what is wrong with a row.
func (b behaviour) check(there map[string]bool) []problem {
	var found []problem
	named := evidenceIn(b.where)
	for _, name := range named {
		if !there[name] {
			found = append(found, b.problem("names %s, which is not there", name))
		}
	}
	if len(strings.Fields(b.what)) < 2 {
		found = append(found, b.problem("says nothing"))
	}
	word, reason, _ := strings.Cut(b.where, ": ")
	feature, _, _ := strings.Cut(reason, "; ")
	switch {
	case word == "not yet" && !slices.Contains(notBuilt(), feature):
		found = append(found, b.problem("waits for %q, which is none of %q", feature, notBuilt()))
	case word == "n/a" && len(strings.Fields(reason)) < 3:
		found = append(found, b.problem("is not ours without a reason"))
	case word == "differs" && len(strings.Fields(strings.ReplaceAll(reason, "`", " "))) < 5:
		found = append(found, b.problem("differs without a word how"))
	case word != "not yet" && word != "n/a" && len(named) == 0:
		found = append(found, b.problem("names no test, and no reason why there is none"))
	}
	return found
}

// evidenceIn returns the files and tests that a cell names. Other quoted words are flags and the like.
func evidenceIn(where string) []string {
	var named []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(where, -1) {
		top, _, below := strings.Cut(m[1], "/")
		if below && slices.Contains([]string{"internal", "e2e", "cmd", "docs"}, top) {
			named = append(named, path.Clean(m[1]))
		}
	}
	return named
}

func TestUnprovenBehavioursAreFound(t *testing.T) {
	c := checkout{
		texts: map[string][]byte{"internal/a/a.txtar": nil},
		files: []file{
			sample(t, "internal/a/a_test.go", "func TestA() {}\nfunc FuzzA() {}\nfunc notATest() {}\ntype T int\nfunc (T) TestB() {}"),
			sample(t, "internal/a/a.go", "func TestC() {}"),
		},
	}
	const good = "| 1 | it does this | `internal/a TestA`, `internal/a FuzzA` |\n| 2 | it does that | `internal/a/a.txtar`, with `--flag` |\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"all is well", good, nil},
		{"words and other tables", "# A\n\ntext\n\n| number | what |\n| --- | --- |\n" + good, nil},
		{"differs", "| 1 | it does this | differs: not here, in words: `internal/a TestA` |\n| 2 | it does that | n/a: it cannot be done |\n", nil},
		{"not yet", "| 1 | it does this | not yet: API server |\n| 2 | it does that | not yet: configuration; some of it |\n", nil},
		{"nothing at all", "", []string{"1 is missing", "2 is missing"}},
		{"missing", "| 2 | it does that | `internal/a TestA` |\n", []string{"1 is missing"}},
		{"twice", good + "| 2 | it does that | `internal/a TestA` |\n", []string{"2 is in line 2 too"}},
		{"too many", good + "| 3 | it does more | `internal/a TestA` |\n", []string{"3 is not one of 1..2"}},
		{"a cell too few", good + "| 3 | `internal/a TestA` |\n", []string{"3 has 2 cells", "is not one", "says nothing", "names no test"}},
		{"a cell too many", strings.Replace(good, "does this", "does | this", 1), []string{"1 has 4 cells", "says nothing", "names no test"}},
		{"no words", strings.Replace(good, "it does this", "-", 1), []string{"1 says nothing"}},
		{"no test", strings.Replace(good, "`internal/a TestA`, `internal/a FuzzA`", "surely", 1), []string{"1 names no test"}},
		{"a flag is no test", strings.Replace(good, "`internal/a/a.txtar`, ", "", 1), []string{"2 names no test"}},
		{"a test that is not there", strings.Replace(good, "TestA", "TestZ", 1), []string{"names internal/a TestZ"}},
		{"a test elsewhere", strings.Replace(good, "internal/a TestA", "internal/b TestA", 1), []string{"names internal/b TestA"}},
		{"a function", strings.Replace(good, "TestA", "notATest", 1), []string{"names internal/a notATest"}},
		{"a method", strings.Replace(good, "TestA", "TestB", 1), []string{"names internal/a TestB"}},
		{"not in a test", strings.Replace(good, "TestA", "TestC", 1), []string{"names internal/a TestC"}},
		{"a file that is not there", strings.Replace(good, "a.txtar", "b.txtar", 1), []string{"names internal/a/b.txtar"}},
		{"no reason", strings.Replace(good, "`internal/a/a.txtar`, with `--flag`", "n/a: no", 1), []string{"2 is not ours without"}},
		{"a feature that is not planned", strings.Replace(good, "`internal/a/a.txtar`, with `--flag`", "not yet: magic", 1), []string{"2 waits for \"magic\""}},
		{"differs, but how", strings.Replace(good, "`internal/a/a.txtar`, with `--flag`", "differs: `internal/a TestA`", 1), []string{"2 differs without"}},
		{"differs, but where", strings.Replace(good, "`internal/a/a.txtar`, with `--flag`", "differs: it is much better here", 1), []string{"2 names no test"}},
	} {
		t.Run(test.name, func(t *testing.T) { wantProblems(t, unproven(test.text, 2, c.evidence()), test.want...) })
	}
}
