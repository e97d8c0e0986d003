// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"container/heap"
	"maps"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A row that failed is tried again after retryFirst, then after twice as long each time, up to retryLast.
const (
	retryFirst = 100 * time.Millisecond
	retryLast  = 30 * time.Second
)

// retryState is what the kernel refused of one table. It costs nothing while the kernel refuses nothing.
type retryState[K state.Key[K]] struct {
	retries shrinkingMap[K, retry]
	doubt   shrinkingMap[K, struct{}] // failed to change, but it may only be the answer that failed
	dates   dates[K]                  // of the retries; some may be outdated
	latest  time.Time                 // a row was refused that had not been before
	took    [2]time.Time              // when the kernel last took a row of each family

	version uint64     // of the retries
	sums    [2]refused // of each family
}

// refused sums up the retries of one family.
type refused struct {
	version uint64
	rows    int
	since   time.Time // the first of them
}

type retry struct {
	since time.Time // it was refused first
	after time.Duration
	due   time.Time
}

// failed takes in the result of a row, and reports whether it failed.
func (t *retryState[K]) failed(k K, r kernel.Result[K], now time.Time) bool {
	if _, failed := r.Failed[k]; !failed {
		t.forget(k)
		t.doubt.drop(k)
		t.taken(k, now)
		return false
	}
	before, again := t.retries.get(k)
	if !again {
		before.since, t.latest = now, now
	}
	after := min(max(2*before.after, retryFirst), retryLast)
	t.retries.put(k, retry{since: before.since, after: after, due: now.Add(after)})
	t.version++
	heap.Push(&t.dates, date[K]{now.Add(after), k})
	t.doubt.put(k, struct{}{})
	return true
}

// forget is for a row that does not fail any more, or waits for something else.
func (t *retryState[K]) forget(k K) {
	if t.retries.has(k) {
		t.retries.drop(k)
		t.version++
	}
}

// sum is of the rows of family f that are refused.
func (t *retryState[K]) sum(f state.Family) refused {
	s := &t.sums[f.Index()]
	if s.version == t.version {
		return *s
	}
	*s = refused{version: t.version}
	for k, r := range t.retries.rows {
		if k.Families().Has(f) {
			s.rows++
			s.since = earlier(s.since, r.since)
		}
	}
	return *s
}

func (t *retryState[K]) taken(k K, now time.Time) {
	families := k.Families()
	for i := range t.took {
		if families&(1<<i) != 0 {
			t.took[i] = now
		}
	}
}

// unheard reports whether rows of a family have been refused since the kernel last took one.
func (t *retryState[K]) unheard(f state.Family) bool { return t.latest.After(t.took[f.Index()]) }

// hasten is for a row of which another value is desired: the old one may have been what failed.
func (t *retryState[K]) hasten(k K, now time.Time) {
	if r, waits := t.retries.get(k); waits {
		r.due = now
		t.retries.put(k, r)
	}
}

// waits reports whether the row is only to be tried later.
func (t *retryState[K]) waits(k K, now time.Time) bool {
	r, waits := t.retries.get(k)
	return waits && now.Before(r.due)
}

// due takes the rows off whose date has come.
func (t *retryState[K]) due(now time.Time) []K {
	var keys []K
	for a, any := t.first(); any && !now.Before(a.at); a, any = t.first() {
		heap.Pop(&t.dates)
		keys = append(keys, a.key)
	}
	return keys
}

// wake is the time of the first retry, and late if there is none.
func (t *retryState[K]) wake(late time.Time) time.Time {
	if a, any := t.first(); any && a.at.Before(late) {
		return a.at
	}
	return late
}

// first is the first date, if there is one. It takes outdated ones off.
func (t *retryState[K]) first() (date[K], bool) {
	for len(t.dates) > 0 {
		a := t.dates[0]
		if r, waits := t.retries.get(a.key); waits && r.due.Equal(a.at) {
			return a, true
		}
		heap.Pop(&t.dates)
	}
	return date[K]{}, false
}

// listedAll ends the doubts about all rows but those that were written while they were listed.
func (t *retryState[K]) listedAll(but map[K]struct{}) {
	var left shrinkingMap[K, struct{}]
	for k := range but {
		if t.doubt.has(k) {
			left.put(k, struct{}{})
		}
	}
	t.doubt = left
}

func (t *retryState[K]) doubts(k K) bool { return t.doubt.has(k) }

// failing reports whether a row failed and is tried again within that time.
func (t *retryState[K]) failing(within time.Duration) bool {
	for _, r := range t.retries.rows {
		if r.after < within {
			return true
		}
	}
	return false
}

// dates are a heap (container/heap) with the first on top.
type dates[K any] []date[K]

type date[K any] struct {
	at  time.Time
	key K
}

func (d dates[K]) Len() int           { return len(d) }
func (d dates[K]) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d dates[K]) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dates[K]) Push(x any)        { *d = append(*d, x.(date[K])) }

func (d *dates[K]) Pop() any {
	old, last := *d, len(*d)-1
	a := old[last]
	if *d = old[:last]; last == 0 {
		*d = nil
	}
	return a
}

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
