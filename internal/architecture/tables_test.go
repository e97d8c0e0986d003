// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"go/ast"
	"slices"
	"testing"
)

// listers are the functions that name every table, each with its reason. All others range over state.Table.
func listers() map[string]string {
	return map[string]string{
		"internal/state kinds":         "the list",
		"internal/state Counts":        "every change asks for it several times",
		"internal/state Families":      "the same",
		"internal/kernel Refused":      "the same",
		"internal/kernel kinds":        "the types of the stores",
		"internal/kernel Apply":        "the order that is safe for packets",
		"internal/desired New":         "how each table merges",
		"internal/reconcile NewCore":   "which rows of each table are ours",
		"internal/render sections":     "the text of each table",
		"internal/render PlanOf":       "the JSON of a plan names each table in its own way",
		"internal/takeover first":      "what kube-proxy needs first is different in each table",
		"internal/kernel/linux Tables": "the adapter of each table",
		"internal/testkit/mem Tables":  "the same in memory",
		"internal/testkit kinds":       "what tests do with each table",
		"internal/testkit crowd":       "many rows of the tables that grow",
		"internal/testkit many":        "counts of these",
		"e2e/floor encode":             "the cheapest way to write each table",
	}
}

// tableNames are the fields of a record, from the record itself.
func tableNames(t *testing.T) []string {
	t.Helper()
	for _, f := range sources(t).files {
		if f.name == "internal/state/state.go" {
			return stateFields(f)
		}
	}
	t.Fatal("internal/state/state.go is not there")
	return nil
}

func stateFields(f file) []string {
	var names []string
	for _, s := range nodes[*ast.TypeSpec](f) {
		record, ok := s.Type.(*ast.StructType)
		if !ok || s.Name.Name != "State" {
			continue
		}
		for _, field := range record.Fields.List {
			names = append(names, field.Names[0].Name)
		}
	}
	return names
}

// most is how many tables a function may name before it is taken for one that lists them.
const most = 5

func TestNoFunctionListsTheTablesByHand(t *testing.T) {
	names := tableNames(t)
	if len(names) < 9 {
		t.Fatalf("a State has %q", names)
	}
	unused := listers()
	for _, f := range sources(t).files {
		if f.isTest() {
			continue
		}
		for _, d := range nodes[*ast.FuncDecl](f) {
			who := f.folder() + " " + d.Name.Name
			if found := named(d, names); len(found) > most {
				if unused[who] == "" && listers()[who] == "" {
					t.Error(f.problem(d, fmt.Sprintf("%s lists %d tables by hand: range over state.Tables, or say in listers why not", d.Name.Name, len(found))))
				}
				delete(unused, who)
			}
		}
	}
	for who := range unused {
		t.Errorf("%s lists no tables any more: remove it from listers", who)
	}
}

// named are the tables that a function names: as fields of a record, or as keys of a literal.
func named(d *ast.FuncDecl, names []string) []string {
	var found []string
	note := func(name string) {
		if slices.Contains(names, name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			note(n.Sel.Name)
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok {
				note(key.Name)
			}
		}
		return true
	})
	return found
}
