// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"fmt"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// kinds are the types of the rows of each table, for what tests do with all of them.
func kinds() [state.Tables]kind {
	return [state.Tables]kind{
		state.Sysctls:        rowsOf[state.SysctlName, string]{},
		state.Sets:           rowsOf[state.SetName, state.Set]{},
		state.Entries:        rowsOf[state.SetEntry, state.Entry]{},
		state.Chains:         rowsOf[state.ChainKey, state.Chain]{},
		state.Jumps:          rowsOf[state.JumpKey, state.Jump]{},
		state.Links:          rowsOf[state.LinkName, state.Link]{},
		state.VirtualServers: rowsOf[state.VirtualServerKey, state.VirtualServer]{},
		state.RealServers:    rowsOf[state.RealServerKey, state.RealServer]{},
		state.Addresses:      rowsOf[state.Address, state.Binding]{},
	}
}

type kind interface {
	intercept(state.Table, *kernel.Tables, interceptor)
	describe(t state.Table, d *state.Delta, most int, text *strings.Builder)
}

type rowsOf[K, V comparable] struct{}

// Differ returns an error that names the rows in which have is not as want, at most some of each kind.
func Differ(have, want state.State, most int) error {
	d := state.Diff(have, want)
	if d.Len() == 0 {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d rows of the kernel are not as they should be (- missing, + too many, ~ wrong):", d.Len())
	for t, k := range kinds() {
		k.describe(state.Table(t), &d, most, &text)
	}
	return fmt.Errorf("%s", text.String())
}

func (rowsOf[K, V]) describe(t state.Table, d *state.Delta, most int, text *strings.Builder) {
	part := state.Part[diff.Delta[K, V]](t, d)
	for _, row := range part.Add[:min(most, len(part.Add))] {
		fmt.Fprintf(text, "\n  - %s %v = %+v", t.Title(), row.Key, row.Value)
	}
	for _, row := range part.Remove[:min(most, len(part.Remove))] {
		fmt.Fprintf(text, "\n  + %s %v = %+v", t.Title(), row.Key, row.Value)
	}
	for _, c := range part.Update[:min(most, len(part.Update))] {
		fmt.Fprintf(text, "\n  ~ %s %v = %+v, not %+v", t.Title(), c.Key, c.Old, c.New)
	}
}

// interceptor is called before each list of a table and each change of a row.
type interceptor interface {
	list() error               // an error: the list fails with it
	row() (pass bool, _ error) // an error: the change fails with it, whether it passes or not
}

// intercepted returns tables that call i.
func intercepted(t kernel.Tables, i interceptor) kernel.Tables {
	for table, k := range kinds() {
		k.intercept(state.Table(table), &t, i)
	}
	return t
}

func (rowsOf[K, V]) intercept(t state.Table, tables *kernel.Tables, i interceptor) {
	s := state.Part[kernel.Store[K, V]](t, tables)
	*s = interceptedStore[K, V]{*s, i}
}

type interceptedStore[K, V comparable] struct {
	kernel.Store[K, V]
	interceptor interceptor
}

func (s interceptedStore[K, V]) List(ctx context.Context) (map[K]V, error) {
	if err := s.interceptor.list(); err != nil {
		return nil, err
	}
	return s.Store.List(ctx)
}

func (s interceptedStore[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	var failed kernel.Result[K]
	var rest diff.Delta[K, V]
	passes := func(k K) bool {
		pass, err := s.interceptor.row()
		if err != nil {
			failed.Fail(k, err)
		}
		return pass
	}
	for _, r := range d.Remove {
		if passes(r.Key) {
			rest.Remove = append(rest.Remove, r)
		}
	}
	for _, c := range d.Update {
		if passes(c.Key) {
			rest.Update = append(rest.Update, c)
		}
	}
	for _, r := range d.Add {
		if passes(r.Key) {
			rest.Add = append(rest.Add, r)
		}
	}
	result := s.Store.Apply(ctx, rest)
	result.Merge(failed)
	return result
}
