// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"go/ast"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var walkStep = regexp.MustCompile("(?m)^\\| `(internal/[a-z0-9_/]+\\.go)` \\| `(\\w+)` \\|")

func TestTheWalkNamesFunctionsThatAreThere(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := walkStep.FindAllStringSubmatch(string(text), -1)
	if len(steps) < 10 {
		t.Fatalf("docs/architecture.md has a walk of %d steps", len(steps))
	}
	for _, step := range steps {
		if !slices.Contains(functions(sources(t).files, step[1]), step[2]) {
			t.Errorf("docs/architecture.md: %s has no function %s", step[1], step[2])
		}
	}
}

// functions are the names of the functions and methods of a file.
func functions(files []file, name string) []string {
	var names []string
	for _, f := range files {
		if f.name != name {
			continue
		}
		for _, d := range nodes[*ast.FuncDecl](f) {
			names = append(names, d.Name.Name)
		}
	}
	return names
}

// A record has a field for each table, first and in their order: state.Part finds it by its place.
func TestEveryRecordHasItsTables(t *testing.T) {
	for _, record := range []any{state.State{}, state.Delta{}, state.Fragment{}, kernel.Tables{}, kernel.Results{}, desired.Desired{}, desired.Touched{}} {
		r := reflect.TypeOf(record)
		for table := range state.Tables {
			if want := stateField(table); r.NumField() <= int(table) || r.Field(int(table)).Name != want {
				t.Errorf("field %d of %v is not %s", table, r, want)
			}
		}
	}
}

// stateField is the name of a table's field: its name, as exported.
func stateField(t state.Table) string {
	name := t.String()
	return string(name[0]-'a'+'A') + name[1:]
}
