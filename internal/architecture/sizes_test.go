// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"go/ast"
	"slices"
	"testing"
)

// What is larger does two things.
const (
	fileLines        = 400
	functionLines    = 60
	medianLines      = 15
	interfaceMethods = 3
	parameters       = 5
)

func TestNothingIsTooLargeToReadAtAGlance(t *testing.T) { each(t, tooLarge) }

func tooLarge(f file) []problem {
	found := tooManyNames(f)
	if n := lines(f.text); n > fileLines {
		found = append(found, f.problem(f.syntax, fmt.Sprintf("has %d lines, more than %d: divide it by what it is about", n, fileLines)))
	}
	for _, d := range nodes[*ast.FuncDecl](f) {
		if n := f.length(d); n > functionLines {
			found = append(found, f.problem(d, fmt.Sprintf("%s has %d lines, more than %d: name its steps", d.Name.Name, n, functionLines)))
		}
	}
	return found
}

func tooManyNames(f file) []problem {
	var found []problem
	for _, i := range nodes[*ast.InterfaceType](f) {
		if n := len(i.Methods.List); n > interfaceMethods {
			found = append(found, f.problem(i, fmt.Sprintf("interface of %d methods, more than %d: its users need less each", n, interfaceMethods)))
		}
	}
	for _, s := range nodes[*ast.FuncType](f) {
		if n := s.Params.NumFields(); n > parameters {
			found = append(found, f.problem(s, fmt.Sprintf("%d parameters, more than %d: some of them are one thing", n, parameters)))
		}
	}
	return found
}

func (f file) length(n ast.Node) int { return f.line(n.End()) - f.line(n.Pos()) + 1 }

func TestMostFunctionsAreAboutADozenLines(t *testing.T) {
	median := medianLength(sources(t).files)
	t.Logf("the median function has %d lines", median)
	if median > medianLines {
		t.Errorf("the median function has %d lines, more than %d", median, medianLines)
	}
}

func medianLength(files []file) int {
	var lengths []int
	for _, f := range files {
		if f.isTest() {
			continue
		}
		for _, d := range nodes[*ast.FuncDecl](f) {
			lengths = append(lengths, f.length(d))
		}
	}
	slices.Sort(lengths)
	return lengths[len(lengths)/2]
}
