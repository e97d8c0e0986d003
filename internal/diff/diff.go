// SPDX-License-Identifier: Apache-2.0

// Package diff compares two tables, key by key, and says what turns one into the other. It is generic and pure: it
// knows no kernel, no Service and no order between tables.
package diff

import (
	"iter"
	"slices"
)

// Row is one row of a table.
type Row[K, V comparable] struct {
	Key   K
	Value V
}

// Change is a row whose value differs while its key stays.
type Change[K, V comparable] struct {
	Key      K
	Old, New V
}

// Delta turns one table into another: the rows to add, those to change in place, and those to remove. The zero Delta
// changes nothing.
type Delta[K, V comparable] struct {
	Add    []Row[K, V]
	Update []Change[K, V]
	Remove []Row[K, V]
}

// Len is the number of rows that d touches.
func (d Delta[K, V]) Len() int {
	return len(d.Add) + len(d.Update) + len(d.Remove)
}

// Keys yields the keys of all rows that d touches.
func (d Delta[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for _, rows := range [...][]Row[K, V]{d.Remove, d.Add} {
			for _, r := range rows {
				if !yield(r.Key) {
					return
				}
			}
		}
		for _, c := range d.Update {
			if !yield(c.Key) {
				return
			}
		}
	}
}

// Of returns the delta that turns have into want, each part sorted by compare.
func Of[K, V comparable](have, want map[K]V, compare func(a, b K) int) Delta[K, V] {
	var d Delta[K, V]
	for k, w := range want {
		h, ok := have[k]
		d.Note(k, h, ok, w, true)
	}
	for k, h := range have {
		if _, ok := want[k]; !ok {
			d.Note(k, h, true, h, false)
		}
	}
	d.Sort(compare)
	return d
}

// Note adds to d what has to happen to the row k that is h (if hasH) and should be w (if hasW).
func (d *Delta[K, V]) Note(k K, h V, hasH bool, w V, hasW bool) {
	switch {
	case hasW && !hasH:
		d.Add = append(d.Add, Row[K, V]{k, w})
	case hasW && h != w:
		d.Update = append(d.Update, Change[K, V]{k, h, w})
	case hasH && !hasW:
		d.Remove = append(d.Remove, Row[K, V]{k, h})
	}
}

// Sort puts each part of d into the order of compare, so that equal changes are made, printed and tested in the same
// order everywhere.
func (d *Delta[K, V]) Sort(compare func(a, b K) int) {
	row := func(a, b Row[K, V]) int { return compare(a.Key, b.Key) }
	slices.SortFunc(d.Add, row)
	slices.SortFunc(d.Update, func(a, b Change[K, V]) int { return compare(a.Key, b.Key) })
	slices.SortFunc(d.Remove, row)
}

// Apply makes the changes of d in table.
func (d Delta[K, V]) Apply(table map[K]V) {
	for _, r := range d.Remove {
		delete(table, r.Key)
	}
	for _, r := range d.Add {
		table[r.Key] = r.Value
	}
	for _, c := range d.Update {
		table[c.Key] = c.New
	}
}

// OfRows is Of for two lists that are sorted by compare and have no key twice. It costs memory only for what differs,
// and none if one of them is empty: then the delta shares the other's.
func OfRows[K, V comparable](have, want []Row[K, V], compare func(a, b K) int) Delta[K, V] {
	var d Delta[K, V]
	for len(have) > 0 && len(want) > 0 {
		switch order := compare(have[0].Key, want[0].Key); {
		case order < 0:
			d.Remove = append(d.Remove, have[0])
			have = have[1:]
		case order > 0:
			d.Add = append(d.Add, want[0])
			want = want[1:]
		default:
			d.Note(want[0].Key, have[0].Value, true, want[0].Value, true)
			have, want = have[1:], want[1:]
		}
	}
	d.Remove = extended(d.Remove, have)
	d.Add = extended(d.Add, want)
	return d
}

func extended[K, V comparable](rows, by []Row[K, V]) []Row[K, V] {
	if len(rows) == 0 && len(by) > 0 {
		return slices.Clip(by)
	}
	return append(rows, by...)
}
