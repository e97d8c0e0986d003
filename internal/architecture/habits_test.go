// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestNoPackageStartsByItselfOrChangesBehindItsUser(t *testing.T) { each(t, hiddenState) }

// hiddenState finds init functions, and package variables other than errors, compiled patterns, embedded files and
// assertions that a type implements an interface.
func hiddenState(f file) []problem {
	var found []problem
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				found = append(found, f.problem(d, "init runs without a call: make a function that main calls"))
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR && !f.isTest() && !embeds(d) {
				found = append(found, variables(f, d)...)
			}
		}
	}
	return found
}

// embeds reports whether a variable is the text of a file.
func embeds(d *ast.GenDecl) bool {
	return d.Doc != nil && slices.ContainsFunc(d.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func variables(f file, d *ast.GenDecl) []problem {
	var found []problem
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		proof := v.Names[0].Name == "_"
		if !proof && (len(v.Values) != len(v.Names) || !allCalls(f, v.Values, "errors.New", "fmt.Errorf", "regexp.MustCompile")) {
			found = append(found, f.problem(v, fmt.Sprintf("variable %s of a package: let a function return it, or a value hold it", v.Names[0].Name)))
		}
	}
	return found
}

func allCalls(f file, values []ast.Expr, names ...string) bool {
	return !slices.ContainsFunc(values, func(e ast.Expr) bool {
		call, ok := e.(*ast.CallExpr)
		return !ok || !slices.Contains(names, f.qualified(call.Fun))
	})
}

func TestNoTestSkips(t *testing.T) { each(t, skips) }

// skips finds tests that may skip. The make target provides what a test needs; without it, the test fails.
func skips(f file) []problem {
	var found []problem
	for _, call := range nodes[*ast.CallExpr](f) {
		s, ok := call.Fun.(*ast.SelectorExpr)
		if ok && f.isTest() && slices.Contains([]string{"Skip", "Skipf", "SkipNow", "Short"}, s.Sel.Name) {
			found = append(found, f.problem(call, s.Sel.Name+": a test without what it needs must fail and say so"))
		}
	}
	return found
}

func TestEveryFileNamesItsLicenceFirst(t *testing.T) { each(t, unlicensed) }

func unlicensed(f file) []problem {
	if bytes.HasPrefix(f.text, []byte("// SPDX-License-Identifier: Apache-2.0\n\n")) {
		return nil
	}
	return []problem{f.problem(f.syntax, "the first line is not // SPDX-License-Identifier: Apache-2.0, with an empty line after it")}
}

func TestEveryPackageSaysOnceWhatItIsFor(t *testing.T) {
	report(t, undocumented(sources(t).files))
}

func undocumented(files []file) []problem {
	comments := map[string]int{}
	for _, f := range files {
		comments[f.folder()] += packageComments(f)
	}
	var found []problem
	for _, folder := range slices.Sorted(maps.Keys(comments)) {
		if n := comments[folder]; n != 1 {
			found = append(found, problem{folder, fmt.Sprintf("has %d comments that start with Package NAME or Command NAME, want one", n)})
		}
	}
	return found
}

// packageComments returns 1 if the file has a package comment that starts correctly.
func packageComments(f file) int {
	doc := f.syntax.Doc.Text()
	name := f.syntax.Name.Name
	if strings.HasPrefix(doc, "Package "+name+" ") || name == "main" && strings.HasPrefix(doc, "Command "+path.Base(f.folder())+" ") {
		return 1
	}
	return 0
}

// A path of one machine works nowhere else, and work that is left belongs to the list of issues.
func TestNothingIsLeftForLaterOrTiedToOneMachine(t *testing.T) {
	c := sources(t)
	for name, text := range c.texts {
		report(t, unfinished(name, text))
	}
	for _, f := range c.files {
		report(t, unfinished(f.name, f.text))
	}
}

func unfinished(name string, text []byte) []problem {
	var found []problem
	for _, rule := range []struct{ pattern, what string }{
		{`\b(TO[D]O|FIX[M]E|XX[X])\b`, "a note to do something: do it, or open an issue"},
		{`(^|[^\w.])/(work|root|home)/`, "a path of one machine"},
	} {
		for _, at := range regexp.MustCompile(rule.pattern).FindAllIndex(text, -1) {
			line := 1 + bytes.Count(text[:at[0]], []byte("\n"))
			found = append(found, problem{fmt.Sprintf("%s:%d", name, line), rule.what})
		}
	}
	return found
}

func TestNamesSayWhatAThingIs(t *testing.T) { each(t, emptyNames) }

// emptyWords returns words that say nothing in a name.
func emptyWords() []string {
	return []string{"manager", "handler", "helper", "helpers", "util", "utils", "info", "data", "process", "common", "impl"}
}

func emptyNames(f file) []problem {
	var found []problem
	check := func(n ast.Node, name string) {
		for _, w := range words(name) {
			if slices.Contains(emptyWords(), w) {
				found = append(found, f.problem(n, fmt.Sprintf("%q in the name %s says nothing: name what it is or does", w, name)))
			}
		}
	}
	check(f.syntax, strings.TrimSuffix(path.Base(f.name), ".go"))
	check(f.syntax, f.syntax.Name.Name)
	for _, t := range nodes[*ast.TypeSpec](f) {
		check(t, t.Name.Name)
	}
	for _, d := range nodes[*ast.FuncDecl](f) {
		check(d, d.Name.Name)
	}
	return found
}

// words returns the words of a name in lower case: parse, http and body of parseHTTPBody.
func words(name string) []string {
	var b strings.Builder
	letters := []rune(name)
	for i, r := range letters {
		upper := unicode.IsUpper(r)
		starts := upper && i > 0 && (!unicode.IsUpper(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1]))
		if starts || r == '_' {
			b.WriteByte(' ')
		}
		if r != '_' {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return strings.Fields(b.String())
}
