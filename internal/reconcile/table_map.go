// SPDX-License-Identifier: Apache-2.0

package reconcile

import "maps"

// shrinkingMap is a map that gives its room back: Go's maps keep that of all rows they ever held at once, and at a
// start that is the whole cluster. The zero value is empty.
type shrinkingMap[K comparable, V any] struct {
	rows map[K]V
	most int // rows that there is room for
}

// worthwhile is how many rows there have to be room for before any is given back.
const worthwhile = 256

// reserve makes room for more rows at once.
func (m *shrinkingMap[K, V]) reserve(more int) {
	if more >= worthwhile && more > m.most-len(m.rows) {
		m.resize(len(m.rows) + more)
	}
}

func (m *shrinkingMap[K, V]) resize(room int) {
	rows := make(map[K]V, room)
	maps.Copy(rows, m.rows)
	m.rows, m.most = rows, room
}

func (m *shrinkingMap[K, V]) len() int { return len(m.rows) }

func (m *shrinkingMap[K, V]) get(k K) (V, bool) {
	v, there := m.rows[k]
	return v, there
}

func (m *shrinkingMap[K, V]) has(k K) bool {
	_, there := m.rows[k]
	return there
}

func (m *shrinkingMap[K, V]) put(k K, v V) {
	if m.rows == nil {
		m.rows = map[K]V{}
	}
	m.rows[k] = v
	m.most = max(m.most, len(m.rows))
}

func (m *shrinkingMap[K, V]) drop(k K) {
	if len(m.rows) == 0 {
		return
	}
	delete(m.rows, k)
	if m.most >= worthwhile && len(m.rows) <= m.most/8 {
		m.resize(len(m.rows))
	}
}
