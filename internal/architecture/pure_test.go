// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// Pure files compute values from values: they use no clock, network, file, log or goroutine.
func TestWhatDecidesIsPure(t *testing.T) {
	rules := importRules()
	for _, f := range sources(t).files {
		if r, ok := ruleOf(rules, shortPath(module+"/"+f.folder())); ok && !f.isTest() && r.isPure(f) {
			report(t, impurities(f))
		}
	}
}

// pureStandard returns the packages of the standard library that only compute. bufio, io and io/fs work on given
// readers.
func pureStandard() []string {
	return []string{
		"bufio", "bytes", "cmp", "container/heap", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "hash/fnv", "io", "io/fs", "iter",
		"maps", "math", "math/bits", "net/netip", "reflect", "regexp", "slices", "strconv", "strings", "text/tabwriter", "time", "unicode", "unique",
	}
}

// impure returns the impure functions of pure packages.
func impure() []string {
	return []string{
		"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.Tick",
		"time.NewTimer", "time.NewTicker", "fmt.Print", "fmt.Printf", "fmt.Println", "fmt.Scan", "fmt.Scanf", "fmt.Scanln",
	}
}

// namesOnly returns packages that a pure file may import for constants and types. Their functions talk to the kernel.
func namesOnly() []string {
	return []string{"golang.org/x/sys/unix", "github.com/vishvananda/netlink/nl", "github.com/moby/ipvs"}
}

func impurities(f file) []problem {
	var found []problem
	for _, s := range f.syntax.Imports {
		p := imported(s)
		if standard(p) && !slices.Contains(pureStandard(), p) {
			found = append(found, f.problem(s, fmt.Sprintf("imports %s, which a pure file may not: pass it a value", p)))
		}
	}
	for _, s := range nodes[*ast.SelectorExpr](f) {
		if name := f.qualified(s); slices.Contains(impure(), name) {
			found = append(found, f.problem(s, fmt.Sprintf("uses %s in a pure file: pass it the result", name)))
		}
	}
	for _, c := range nodes[*ast.CallExpr](f) {
		if name := f.qualified(c.Fun); talks(name) {
			found = append(found, f.problem(c, fmt.Sprintf("calls %s in a pure file, which may use only constants and types of that package", name)))
		}
	}
	for _, g := range nodes[*ast.GoStmt](f) {
		found = append(found, f.problem(g, "starts a goroutine in a pure file"))
	}
	return found
}

// talks reports whether a function is of a package in namesOnly. unix.Errno(n) is a conversion.
func talks(name string) bool {
	return name != "golang.org/x/sys/unix.Errno" &&
		slices.ContainsFunc(namesOnly(), func(p string) bool { return strings.HasPrefix(name, p+".") })
}
