// SPDX-License-Identifier: Apache-2.0

// Package architecture checks the rules of this project: imports, purity, sizes, names and some habits. Its tests read
// the sources as text.
package architecture

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of this module.
const module = "github.com/kube-ipvs/kube-ipvs"

// root is the folder of the module.
const root = "../.."

// file is one Go file.
type file struct {
	name   string // as in internal/diff/diff.go
	text   []byte
	syntax *ast.File
	set    *token.FileSet
	known  map[string]string // import paths by the name the file uses them under
}

// problem is a broken rule, and where.
type problem struct{ where, what string }

func (f file) folder() string { return path.Dir(f.name) }
func (f file) isTest() bool   { return strings.HasSuffix(f.name, "_test.go") }

func (f file) line(p token.Pos) int { return f.set.Position(p).Line }

func (f file) problem(n ast.Node, what string) problem {
	return problem{f.name + ":" + strconv.Itoa(f.line(n.Pos())), what}
}

// names returns the import paths of a file by the name that it uses: the given one, or the last element of the path
// that is no version, which is right for everything that we import.
func names(syntax *ast.File) map[string]string {
	all := map[string]string{}
	for _, s := range syntax.Imports {
		name := path.Base(imported(s))
		if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
			name = path.Base(path.Dir(imported(s)))
		}
		if s.Name != nil {
			name = s.Name.Name
		}
		all[name] = imported(s)
	}
	return all
}

func imported(s *ast.ImportSpec) string { return strings.Trim(s.Path.Value, "`\"") }

// qualified returns the path and name of a selector, as in "golang.org/x/sys/unix.Close"; empty for other expressions.
func (f file) qualified(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok || f.known[x.Name] == "" {
		return ""
	}
	return f.known[x.Name] + "." + s.Sel.Name
}

func parse(name string, text []byte) (file, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	return file{name, text, syntax, set, names(syntax)}, nil
}

// checkout is the files of the module.
type checkout struct {
	files []file            // of Go, sorted by name
	texts map[string][]byte // all others
}

// sources returns the checkout, which is read once for all tests.
func sources(t *testing.T) checkout {
	t.Helper()
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var read = sync.OnceValues(func() (checkout, error) {
	c := checkout{texts: map[string][]byte{}}
	module := os.DirFS(root)
	err := fs.WalkDir(module, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && foreign(name) {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || !written(name) {
			return nil
		}
		text, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		return c.add(name, text)
	})
	return c, err
})

// foreign reports whether a folder does not belong to the module.
func foreign(folder string) bool {
	return folder == "bin" || strings.HasPrefix(folder, ".") && folder != "." && folder != ".ci"
}

func written(name string) bool {
	return slices.Contains([]string{"Makefile", ".ci/run"}, name) || slices.Contains([]string{".go", ".md", ".yaml", ".txtar"}, path.Ext(name))
}

func (c *checkout) add(name string, text []byte) error {
	if path.Ext(name) != ".go" {
		c.texts[name] = text
		return nil
	}
	f, err := parse(name, text)
	c.files = append(c.files, f)
	return err
}

// each reports the problems that check finds in Go files.
func each(t *testing.T, check func(file) []problem) {
	t.Helper()
	for _, f := range sources(t).files {
		report(t, check(f))
	}
}

func report(t *testing.T, problems []problem) {
	t.Helper()
	for _, p := range problems {
		t.Errorf("%s: %s", p.where, p.what)
	}
}

// nodes returns all nodes of one kind in a file.
func nodes[N ast.Node](f file) []N {
	var all []N
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if node, ok := n.(N); ok {
			all = append(all, node)
		}
		return true
	})
	return all
}

// lines returns the number of lines.
func lines(text []byte) int { return bytes.Count(text, []byte("\n")) }
