// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// What decides is pure: it computes values from values. It can't look at a
// clock, the network or a file, it starts nothing, and it tells a log nothing.
func TestWhatDecidesIsPure(t *testing.T) {
	rooms := rooms()
	for _, f := range house(t).files {
		if r, ok := findRoom(rooms, known(module+"/"+f.folder())); ok && !f.isTest() && r.isPure(f) {
			report(t, impurities(f))
		}
	}
}

// pureStandard are the packages of the standard library that only compute. bufio, io
// and io/fs are here for what they do with readers that are given, their interfaces and errors.
func pureStandard() []string {
	return []string{
		"bufio", "bytes", "cmp", "container/heap", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "hash/fnv", "io", "io/fs", "iter",
		"maps", "math", "math/bits", "net/netip", "reflect", "regexp", "slices", "strconv", "strings", "text/tabwriter", "time", "unicode",
	}
}

// impure are functions in packages that are pure otherwise.
func impure() []string {
	return []string{
		"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.Tick",
		"time.NewTimer", "time.NewTicker", "fmt.Print", "fmt.Printf", "fmt.Println", "fmt.Scan", "fmt.Scanf", "fmt.Scanln",
	}
}

// namesOnly are packages that a pure file may have for their constants and
// types. What their functions do is talk to the kernel.
func namesOnly() []string {
	return []string{"golang.org/x/sys/unix", "github.com/vishvananda/netlink/nl", "github.com/moby/ipvs"}
}

func impurities(f file) []problem {
	var found []problem
	for _, s := range f.syntax.Imports {
		p := imported(s)
		if standard(p) && !slices.Contains(pureStandard(), p) {
			found = append(found, f.problem(s, fmt.Sprintf("imports %s, which a pure file may not: give it what it needs as a value", p)))
		}
	}
	for _, s := range nodes[*ast.SelectorExpr](f) {
		if name := f.qualified(s); slices.Contains(impure(), name) {
			found = append(found, f.problem(s, fmt.Sprintf("uses %s in a pure file: give it the result as an argument", name)))
		}
	}
	for _, c := range nodes[*ast.CallExpr](f) {
		if name := f.qualified(c.Fun); talks(name) {
			found = append(found, f.problem(c, fmt.Sprintf("calls %s in a pure file, which may have that package's constants and types only", name)))
		}
	}
	for _, g := range nodes[*ast.GoStmt](f) {
		found = append(found, f.problem(g, "starts a goroutine in a pure file"))
	}
	return found
}

// talks reports whether a call is one of a package that is there for its names.
// unix.Errno(n) is a conversion.
func talks(name string) bool {
	return name != "golang.org/x/sys/unix.Errno" &&
		slices.ContainsFunc(namesOnly(), func(p string) bool { return strings.HasPrefix(name, p+".") })
}
