// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"slices"
	"strings"
	"testing"
)

// sample returns a Go file with a name and a body.
func sample(t *testing.T, name, body string) file {
	t.Helper()
	f, err := parse(name, []byte("// SPDX-License-Identifier: Apache-2.0\n\npackage sample\n\n"+body+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestChecksFindWhatTheyAreFor(t *testing.T) {
	long := "func f() {\n" + strings.Repeat("\tf()\n", functionLines) + "}"
	for _, c := range []struct {
		name, file, body string
		check            func(file) []problem
		says             string // empty: nothing is wrong
	}{
		{"a long function", "a.go", long, tooLarge, "f has 62 lines"},
		{"a long function of a test", "a_test.go", long, tooLarge, "f has 62 lines"},
		{"a long file", "a_test.go", strings.Repeat("// line\n", fileLines), tooLarge, "has 405 lines"},
		{"a wide interface", "a.go", "type a interface{ A(); B(); C(); D() }", tooLarge, "interface of 4 methods"},
		{"many parameters", "a.go", "func f(a, b, c int, d, e, f string) {}", tooLarge, "6 parameters"},
		{"a receiver is no parameter", "a.go", "type a int\nfunc (a) f(b, c, d, e, f int) {}", tooLarge, ""},

		{"init", "a.go", "func init() {}", hiddenState, "init runs"},
		{"a method called init", "a.go", "type a int\nfunc (a) init() {}", hiddenState, ""},
		{"a variable", "a.go", "var a = map[string]int{}", hiddenState, "variable a of a package"},
		{"a variable without a value", "a.go", "var a error", hiddenState, "variable a of a package"},
		{"errors and proofs", "a.go", "import \"errors\"\nvar a, b = errors.New(\"a\"), errors.New(\"b\")\nvar _ error = T{}", hiddenState, ""},
		{"a file's text", "a.go", "import _ \"embed\"\n//go:embed a.txt\nvar a string", hiddenState, ""},
		{"another's errors", "a.go", "import \"example.com/errors\"\nvar a = errors.New(\"a\")", hiddenState, "variable a"},

		{"a skip", "a_test.go", "func f(t T) { t.Skipf(\"%d\", 1) }", skips, "Skipf"},
		{"a short test", "a_test.go", "import \"testing\"\nvar a = testing.Short()", skips, "Short"},

		{"a clock", "a.go", "import \"time\"\nvar a = time.Now()", impurities, "time.Now"},
		{"a clock as a value", "a.go", "import clock \"time\"\nvar a = clock.Now", impurities, "time.Now"},
		{"a duration", "a.go", "import \"time\"\nvar a = 3 * time.Second", impurities, ""},
		{"a file", "a.go", "import \"os\"\nvar a = os.Args", impurities, "imports os"},
		{"chance", "a.go", "import \"math/rand/v2\"\nvar a = rand.Int()", impurities, "imports math/rand/v2"},
		{"standard output", "a.go", "import \"fmt\"\nfunc f() { fmt.Println() }", impurities, "fmt.Println"},
		{"a goroutine", "a.go", "func f() { go f() }", impurities, "goroutine"},
		{"a system call", "a.go", "import \"golang.org/x/sys/unix\"\nvar a = unix.Getpid()", impurities, "unix.Getpid"},
		{"an error number", "a.go", "import \"golang.org/x/sys/unix\"\nvar a = unix.Errno(unix.EPERM)", impurities, ""},

		{"a test that imports e2e", "internal/a/a_test.go", "import \"" + module + "/e2e/world\"", testOnlyImports, "belongs to e2e"},
		{"a command that imports e2e", "cmd/a/a.go", "import \"" + module + "/e2e/lab/job\"", testOnlyImports, "belongs to e2e"},
		{"e2e", "e2e/a/a.go", "import (\"testing\"; \"" + module + "/e2e/lab/job\")", testOnlyImports, ""},
		{"a test library", "internal/a/a.go", "import \"testing/quick\"", testOnlyImports, "for tests"},
		{"a kernel for tests", "internal/a/a.go", "import \"" + module + "/internal/testkit/mem\"", testOnlyImports, "for tests"},
		{"a kernel for tests in a test", "internal/a/a_test.go", "import \"" + module + "/internal/testkit/mem\"", testOnlyImports, ""},

		{"an empty name", "a.go", "type nodeInfo int", emptyNames, `"info"`},
		{"an empty name of a file", "http_utils.go", "", emptyNames, `"utils"`},
		{"a word that has one in it", "a.go", "type Information int\nfunc database() {}", emptyNames, ""},
	} {
		found := c.check(sample(t, c.file, c.body))
		matches := slices.ContainsFunc(found, func(p problem) bool { return strings.Contains(p.what, c.says) })
		if c.says == "" && len(found) > 0 || c.says != "" && !matches {
			t.Errorf("%s: got %v, want %q", c.name, found, c.says)
		}
	}
}

func TestUnfinishedThingsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		"one\n// TO" + "DO: x\n":          1,
		"FIX" + "ME":                      1,
		"TO" + "DOS and ATO" + "DO":       0,
		"cd /ro" + "ot/x; ls /ho" + "me/": 2,
		"a/wo" + "rk/b and /ro" + "ot":    0,
	} {
		if got := unfinished("a", []byte(text)); len(got) != want {
			t.Errorf("%q: got %v, want %d", text, got, want)
		}
	}
}

func TestAvoidedWordsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		"One is told.\nNobody wishes it.": 3,
		"wishlist, retold and TellsAll":   0,
	} {
		if got := unplain("a", []byte(text)); len(got) != want {
			t.Errorf("%q: got %v, want %d", text, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	for name, want := range map[string]string{
		"parseHTTPBody": "parse http body", "IPv4": "i pv4", "a_test": "a test", "Data": "data", "x": "x", "SKBInfo": "skb info",
	} {
		if got := strings.Join(words(name), " "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestWrongImportsAndStaleRulesAreFound(t *testing.T) {
	files := []file{sample(t, "internal/a/a.go", `import (
	"fmt"
	"`+module+`/internal/b/c"
	"k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)`), sample(t, "e2e/x/a.go", `import "`+module+`/internal/a"`)}
	e2e := rule{"e2e/...", everything, "", "why"}
	for _, c := range []struct {
		name  string
		rules []rule
		want  []string
	}{
		{"exact", []rule{{"a", "b/c k8s.io/api k8s.io/apimachinery", "a.go", "why"}, e2e}, nil},
		{"trees", []rule{{"a/...", "b/... k8s.io/api k8s.io/apimachinery", "", "why"}, {"e2e/...", "a", "", "why"}}, nil},
		{"a package of ours is not those below it", []rule{{"a", "b k8s.io/api k8s.io/apimachinery", "", "why"}, e2e},
			[]string{"may not import " + module + "/internal/b/c", "has no b:"}},
		{"a module is not one with a longer name", []rule{{"a", "b/c k8s.io/api", "", "why"}, e2e}, []string{"may not import k8s.io/apimachinery"}},
		{"stale", []rule{{"a", "b/c k8s.io/api k8s.io/apimachinery k8s.io/client-go", "b.go", "why"}, e2e},
			[]string{"has no k8s.io/client-go", "has no b.go"}},
		{"no rule", []rule{{"a", "b/c k8s.io/api k8s.io/apimachinery", "a.go", "why"}}, []string{"a new package"}},
		{"no package", []rule{{"a", everything, "", "why"}, {"b", "a", "", "why"}, e2e}, []string{"no such package", "has no a:"}},
	} {
		t.Run(c.name, func(t *testing.T) { wantProblems(t, wrongImports(c.rules, files), c.want...) })
	}
}

func TestWrongRulesAreFound(t *testing.T) {
	wantProblems(t, wrongRules([]rule{
		{"state", "", everything, "why"},
		{"plan", "state kernel k8s.io/api", everything, "why"},
		{"kernel", "state", "", "why"},
		{"kernel/link", "kernel plan k8s.io/api golang.org/x/sys", "", "why"},
		{"kernel", "", "", "why"},
		{"cli", "kernel", "", ""},
	}), "pure and may import kernel", "may import plan: it should know rows", "may import k8s.io/api: it should know rows", "two rules", "without a reason")
}

func wantProblems(t *testing.T, found []problem, want ...string) {
	t.Helper()
	same := slices.EqualFunc(found, want, func(p problem, w string) bool { return strings.Contains(p.what, w) })
	if !same {
		t.Errorf("got %v, want %q", found, want)
	}
}

func TestMissingLicencesAndPackageCommentsAreFound(t *testing.T) {
	good, err := parse("x/a.go", []byte("// SPDX-License-Identifier: Apache-2.0\n\n// Package a is a.\npackage a\n"))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := parse("y/a.go", []byte("// SPDX-License-Identifier: Apache-2.0\n// Package a is a.\npackage b\n"))
	if err != nil {
		t.Fatal(err)
	}
	wantProblems(t, append(unlicensed(good), unlicensed(bad)...), "the first line")
	wantProblems(t, undocumented([]file{good, bad, good}), "has 2 comments", "has 0 comments")
}

func TestTheMedianIsOfFunctionsOfPrograms(t *testing.T) {
	files := []file{
		sample(t, "a.go", "func a() {}\nfunc b() {\n}\nfunc c() {\n\n\n}"),
		sample(t, "a_test.go", "func d() {}\nfunc e() {}\nfunc f() {}"),
	}
	if got := medianLength(files); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}
