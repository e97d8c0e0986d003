// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A row that failed is tried again after retryFirst, then after twice as long
// each time, up to retryLast.
const (
	retryFirst = 100 * time.Millisecond
	retryLast  = 30 * time.Second
)

// lane is one table on its way from wish to kernel: what is believed to be
// there, and which rows have to be looked at.
type lane[K, V comparable] struct {
	want    func(K) (V, bool)
	all     func() iter.Seq2[K, V] // every wished row
	size    func() int             // how many these are, about
	compare func(a, b K) int

	// A row that may not be added or removed yet stays marked. nil: always.
	mayAdd, mayRemove func(K) bool

	// family is set where took is kept: when the kernel last took a row of
	// each family.
	family func(K) Families
	took   [2]time.Time

	have    map[K]V        // our rows in the kernel, by its own answers
	doubt   map[K]struct{} // failed to change, but it may only be the answer that failed
	begun   bool           // there has been an audit; before it, nothing is marked
	listed  bool           // ... which could read the table
	dirty   []K            // marked rows, perhaps more than once
	retries map[K]retry
}

type retry struct {
	since time.Time // it was refused first
	after time.Duration
	due   time.Time
}

// wishes is a table of package desired.
type wishes[K, V comparable] interface {
	Get(K) (V, bool)
	All() iter.Seq2[K, V]
	Len() int
}

func newLane[K, V comparable](w wishes[K, V], compare func(a, b K) int) lane[K, V] {
	return lane[K, V]{
		want: w.Get, all: w.All, size: w.Len, compare: compare,
		have: map[K]V{}, doubt: map[K]struct{}{}, retries: map[K]retry{},
	}
}

// touch marks rows whose wish may have changed. A row that waits for its retry
// is tried at once, since what failed may have been the old wish.
func (l *lane[K, V]) touch(keys ...K) {
	if l.begun {
		l.dirty = append(l.dirty, keys...)
	}
}

// begin is for an audit. One that can't read the table marks all that is wished,
// if it is the first.
func (l *lane[K, V]) begin(read bool) {
	first := !l.begun
	l.begun = true
	if !first || read {
		return
	}
	for k := range l.all() {
		l.touch(k)
	}
}

// next returns what has to happen to the marked rows and those whose retry is
// due, and takes the marks off all that are not held back.
func (l *lane[K, V]) next(now time.Time) diff.Delta[K, V] {
	for k, r := range l.retries {
		if !now.Before(r.due) {
			l.touch(k)
		}
	}
	var d diff.Delta[K, V]
	if len(l.dirty) == 0 {
		return d
	}
	marked := l.marked()
	held := marked[:0] // in their place: at a start, all wait for another table first
	for i, k := range marked {
		h, hasH := l.have[k]
		w, hasW := l.want(k)
		if waits(l.mayAdd, k, hasW && !hasH) || waits(l.mayRemove, k, hasH && !hasW) {
			delete(l.retries, k) // it waits for something else, not for a time
			held = append(held, k)
			continue
		}
		_, doubt := l.doubt[k]
		switch asWished := hasH == hasW && h == w; {
		case asWished && hasW && doubt:
			d.Update = append(d.Update, diff.Change[K, V]{Key: k, Old: h, New: w})
		case asWished:
			delete(l.retries, k)
		default:
			if hasW && !hasH && d.Add == nil {
				d.Add = make([]diff.Row[K, V], 0, len(marked)-i)
			}
			d.Note(k, h, hasH, w, hasW)
		}
	}
	if l.dirty = held; len(held) == 0 {
		l.dirty = nil
	}
	return d
}

// marked are the marked rows, each once, in the order in which a delta has them.
func (l *lane[K, V]) marked() []K {
	slices.SortFunc(l.dirty, l.compare)
	return slices.Compact(l.dirty)
}

func waits[K comparable](may func(K) bool, k K, concerned bool) bool {
	return concerned && may != nil && !may(k)
}

// advance takes the outcome of a delta for the truth about its rows.
func (l *lane[K, V]) advance(d diff.Delta[K, V], r kernel.Result[K], now time.Time) {
	for _, row := range d.Remove {
		if !l.failed(row.Key, r, now) {
			delete(l.have, row.Key)
		}
	}
	l.have = withRoom(l.have, len(d.Add))
	for _, row := range d.Add {
		if !l.failed(row.Key, r, now) {
			l.have[row.Key] = row.Value
		}
	}
	for _, c := range d.Update {
		if !l.failed(c.Key, r, now) {
			l.have[c.Key] = c.New
		}
	}
}

// withRoom is the map m, of a size at once to which it would only grow by being
// copied several times.
func withRoom[K, V comparable](m map[K]V, more int) map[K]V {
	if more <= len(m) {
		return m
	}
	roomy := make(map[K]V, len(m)+more)
	maps.Copy(roomy, m)
	return roomy
}

func (l *lane[K, V]) failed(k K, r kernel.Result[K], now time.Time) bool {
	if _, failed := r.Failed[k]; !failed {
		delete(l.retries, k)
		delete(l.doubt, k)
		l.taken(k, now)
		return false
	}
	before := l.retries[k]
	after := min(max(2*before.after, retryFirst), retryLast)
	l.retries[k] = retry{since: earlier(before.since, now), after: after, due: now.Add(after)}
	l.doubt[k] = struct{}{}
	return true
}

func (l *lane[K, V]) taken(k K, now time.Time) {
	if l.family == nil {
		return
	}
	for i, f := range []state.Family{state.IPv4, state.IPv6} {
		if l.family(k).Has(f) {
			l.took[i] = now
		}
	}
}

// strayed counts the rows that are not as the kernel's own answers left them:
// somebody else has changed them. Before the first listing nothing is known, and
// of a row in doubt neither.
func (l *lane[K, V]) strayed(rows map[K]V) int {
	if !l.listed {
		return 0
	}
	n := 0
	for k, h := range l.have {
		if r, there := rows[k]; (!there || r != h) && !l.doubts(k) {
			n++
		}
	}
	for k := range rows {
		if _, there := l.have[k]; !there && !l.doubts(k) {
			n++
		}
	}
	return n
}

func (l *lane[K, V]) doubts(k K) bool {
	_, doubt := l.doubt[k]
	return doubt
}

// observe takes rows for what the kernel holds of ours, and marks every row
// that is not as wished. Rows that wait for their retry go on waiting.
func (l *lane[K, V]) observe(rows map[K]V) {
	l.have, l.listed = rows, true
	clear(l.doubt)
	l.dirty = slices.DeleteFunc(l.dirty, func(k K) bool { _, waiting := l.retries[k]; return !waiting }) // marked anew
	l.dirty = slices.Grow(l.dirty, max(0, l.size()-len(rows)))
	for k, w := range l.all() {
		if h, ok := rows[k]; !ok || h != w {
			l.mark(k)
		}
	}
	for k, h := range rows {
		if w, ok := l.want(k); !ok || h != w {
			l.mark(k)
		}
	}
}

func (l *lane[K, V]) mark(k K) {
	if _, waiting := l.retries[k]; !waiting {
		l.touch(k)
	}
}

// surelyHas and mayHave say whether the row is, or may be, in the kernel, for
// all that is known.
func (l *lane[K, V]) surelyHas(k K) bool {
	_, there := l.have[k]
	_, doubt := l.doubt[k]
	return there && !doubt
}

func (l *lane[K, V]) mayHave(k K) bool {
	_, there := l.have[k]
	_, doubt := l.doubt[k]
	return there || doubt
}

// wake is the time of the first retry, and late if there is none.
func (l *lane[K, V]) wake(late time.Time) time.Time {
	for _, r := range l.retries {
		if r.due.Before(late) {
			late = r.due
		}
	}
	return late
}

// keep returns the rows that are wished, believed to be ours, or ours by the
// evidence of the kernel itself.
func (l *lane[K, V]) keep(observed map[K]V, ours func(K) bool) map[K]V {
	kept := make(map[K]V, len(observed))
	for k, v := range observed {
		_, wished := l.want(k)
		_, believed := l.have[k]
		if wished || believed || ours(k) {
			kept[k] = v
		}
	}
	return kept
}
