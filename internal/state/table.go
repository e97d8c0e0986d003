// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

// Table is one of the kernel's tables. The order is that in which rows are written (kernel.Tables.Apply).
type Table uint8

// The tables.
const (
	Sysctls Table = iota
	Sets
	Entries
	Chains
	Jumps
	Links
	VirtualServers
	RealServers
	Addresses

	Tables // is how many there are
)

// kinds is the one list of what there is to know of each table: the types of its keys and values, its name in logs and
// metrics, and its title in sentences. How rows compare and print is in the methods of their keys.
func kinds() [Tables]kind {
	return [Tables]kind{
		Sysctls:        rowsOf[SysctlName, string]{"sysctls", "sysctls"},
		Sets:           rowsOf[SetName, Set]{"sets", "sets"},
		Entries:        rowsOf[SetEntry, Entry]{"entries", "set entries"},
		Chains:         rowsOf[ChainKey, Chain]{"chains", "chains"},
		Jumps:          rowsOf[JumpKey, Jump]{"jumps", "jumps"},
		Links:          rowsOf[LinkName, Link]{"links", "devices"},
		VirtualServers: rowsOf[VirtualServerKey, VirtualServer]{"virtualServers", "virtual servers"},
		RealServers:    rowsOf[RealServerKey, RealServer]{"realServers", "real servers"},
		Addresses:      rowsOf[Address, Binding]{"addresses", "addresses"},
	}
}

// String is the table's name in logs and metrics.
func (t Table) String() string {
	if t >= Tables {
		return fmt.Sprintf("table%d", uint8(t))
	}
	return kinds()[t].names().name
}

// Title is the table's name in sentences.
func (t Table) Title() string { return kinds()[t].names().title }

// Shared reports whether the rows of the table serve all Services: it does not grow with the cluster.
func (t Table) Shared() bool {
	return t != Entries && t != VirtualServers && t != RealServers && t != Addresses
}

// Key is what the key of every table is.
type Key[K any] interface {
	comparable
	Compare(K) int
	Families() Families // that a row with this key serves
}

// Part returns the field of a record that belongs to table t. A record is a pointer to a struct whose first fields are
// one for each table, in their order and with their names, such as *State or *Delta; T is the field's type.
func Part[T any](t Table, record any) *T {
	return reflect.ValueOf(record).Elem().Field(int(t)).Addr().Interface().(*T)
}

// kind is what can be done with the rows of a table without their types: in each of the records.
type kind interface {
	inStates
	inTexts
	inFragments
}

type inStates interface {
	make(Table, *State)
	diff(t Table, have, want *State, d *Delta)
	apply(Table, *Delta, *State)
}

type inTexts interface {
	names() rowNames
	missing(Table, *State) bool
}

type inFragments interface {
	list(Table, *State, *Fragment)
	collect(Table, *Fragment, *State)
}

type rowNames struct{ name, title string }

// rowsOf is the kind of a table of K and V.
type rowsOf[K Key[K], V comparable] rowNames

func (r rowsOf[K, V]) names() rowNames { return rowNames(r) }

func (rowsOf[K, V]) make(t Table, s *State) { *Part[map[K]V](t, s) = map[K]V{} }

func (rowsOf[K, V]) missing(t Table, s *State) bool { return *Part[map[K]V](t, s) == nil }

func (rowsOf[K, V]) diff(t Table, have, want *State, d *Delta) {
	*Part[diff.Delta[K, V]](t, d) = diff.Of(*Part[map[K]V](t, have), *Part[map[K]V](t, want), K.Compare)
}

func (rowsOf[K, V]) apply(t Table, d *Delta, s *State) {
	Part[diff.Delta[K, V]](t, d).Apply(*Part[map[K]V](t, s))
}

// list leaves an empty table nil: equal fragments are equal to the last nil.
func (rowsOf[K, V]) list(t Table, s *State, f *Fragment) {
	table := *Part[map[K]V](t, s)
	if len(table) == 0 {
		return
	}
	list := make([]diff.Row[K, V], 0, len(table))
	for k, v := range table {
		list = append(list, diff.Row[K, V]{Key: k, Value: v})
	}
	slices.SortFunc(list, func(a, b diff.Row[K, V]) int { return a.Key.Compare(b.Key) })
	*Part[[]diff.Row[K, V]](t, f) = list
}

func (rowsOf[K, V]) collect(t Table, f *Fragment, s *State) {
	rows := *Part[[]diff.Row[K, V]](t, f)
	table := make(map[K]V, len(rows))
	for _, r := range rows {
		table[r.Key] = r.Value
	}
	*Part[map[K]V](t, s) = table
}
