// SPDX-License-Identifier: Apache-2.0

package reconcile

import "maps"

// elastic is a map that gives its room back: Go's maps keep that of all rows they
// ever held at once, and at a start that is the whole cluster. The zero elastic is
// empty.
type elastic[K comparable, V any] struct {
	rows map[K]V
	most int // rows that there is room for
}

// worthwhile is how many rows there have to be room for before any is given back.
const worthwhile = 256

// reserve makes room for more rows at once.
func (e *elastic[K, V]) reserve(more int) {
	if more < worthwhile || more <= e.most-len(e.rows) {
		return
	}
	roomy := make(map[K]V, len(e.rows)+more)
	maps.Copy(roomy, e.rows)
	e.rows, e.most = roomy, len(e.rows)+more
}

func (e *elastic[K, V]) len() int { return len(e.rows) }

func (e *elastic[K, V]) get(k K) (V, bool) {
	v, there := e.rows[k]
	return v, there
}

func (e *elastic[K, V]) has(k K) bool {
	_, there := e.rows[k]
	return there
}

func (e *elastic[K, V]) put(k K, v V) {
	if e.rows == nil {
		e.rows = map[K]V{}
	}
	e.rows[k] = v
	e.most = max(e.most, len(e.rows))
}

func (e *elastic[K, V]) drop(k K) {
	if len(e.rows) == 0 {
		return
	}
	delete(e.rows, k)
	if e.most < worthwhile || len(e.rows) > e.most/8 {
		return
	}
	smaller := make(map[K]V, len(e.rows))
	maps.Copy(smaller, e.rows)
	e.rows, e.most = smaller, len(smaller)
}
