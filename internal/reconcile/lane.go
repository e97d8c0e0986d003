// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"iter"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
)

// lane is one table on its way from wish to kernel: what is believed to be
// there, and which rows have to be looked at.
//
// What is believed of a row is what is wished of it, but for those in differ. So
// the rows that are right, which soon are all, take no memory and are compared
// with nothing.
type lane[K, V comparable] struct {
	trials[K]
	meanwhile[K]
	heldBack[K]
	wishes  table[K, V]
	want    func(K) (V, bool) // the wish, with what else is to stay
	compare func(a, b K) int

	// A row that may not be added or removed yet stays marked. nil: always.
	mayAdd, mayRemove func(K) bool

	differ elastic[K, belief[V]] // our rows in the kernel, by its own answers
	there  int                   // how many rows are believed to be there
	begun  bool                  // there has been an audit; before it, nothing is marked
	listed bool                  // ... which could read the table
	dirty  []K                   // marked rows, perhaps more than once
}

// belief is what a row is believed to be in the kernel.
type belief[V comparable] struct {
	value V // the zero one unless there
	there bool
}

// table is one of package desired.
type table[K, V comparable] interface {
	Get(K) (V, bool)
	All() iter.Seq2[K, V]
	Len() int
}

func newLane[K, V comparable](w table[K, V], compare func(a, b K) int) lane[K, V] {
	return lane[K, V]{wishes: w, want: w.Get, compare: compare}
}

// get is what the row is believed to be in the kernel.
func (l *lane[K, V]) get(k K) (V, bool) {
	if !l.begun {
		var none V
		return none, false
	}
	if b, differs := l.differ.get(k); differs {
		return b.value, b.there
	}
	return l.wishes.Get(k)
}

// believed yields all rows that are believed to be in the kernel.
func (l *lane[K, V]) believed() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if !l.begun {
			return
		}
		for k, w := range l.wishes.All() {
			if !l.differ.has(k) && !yield(k, w) {
				return
			}
		}
		for k, b := range l.differ.rows {
			if b.there && !yield(k, b.value) {
				return
			}
		}
	}
}

// unwished yields the rows that are believed to be in the kernel and that nobody
// wishes.
func (l *lane[K, V]) unwished() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k, b := range l.differ.rows {
			if !b.there {
				continue
			}
			if _, wished := l.wishes.Get(k); !wished && !yield(k) {
				return
			}
		}
	}
}

// hold makes b what is believed of a row.
func (l *lane[K, V]) hold(k K, b belief[V]) {
	if w, wished := l.wishes.Get(k); b == (belief[V]{w, wished}) {
		l.differ.drop(k)
		return
	}
	l.differ.put(k, b)
}

// learn is hold for a row of which the kernel answered.
func (l *lane[K, V]) learn(k K, b belief[V]) {
	if _, there := l.get(k); there != b.there {
		l.there--
		if b.there {
			l.there += 2
		}
	}
	l.hold(k, b)
}

// note keeps what is believed of rows as it was, while their wish has changed. It
// returns their keys.
func (l *lane[K, V]) note(rows []desired.Was[K, V], now time.Time) []K {
	if !l.begun || len(rows) == 0 {
		return nil
	}
	keys := make([]K, len(rows))
	for i, w := range rows {
		b, differs := l.differ.get(w.Key)
		if !differs {
			b = belief[V]{w.Value, w.There}
		}
		l.hold(w.Key, b)
		l.hasten(w.Key, now)
		keys[i] = w.Key
	}
	return keys
}

// touch marks rows whose wish may have changed. A row that waits for its retry
// is tried at once, since what failed may have been the old wish.
func (l *lane[K, V]) touch(keys ...K) {
	if l.begun {
		l.dirty = append(l.dirty, keys...)
	}
}

// mark is touch for rows of which some may wait for their retry.
func (l *lane[K, V]) mark(keys []K, now time.Time) {
	if l.retries.len() == 0 {
		l.touch(keys...)
		return
	}
	for _, k := range keys {
		if !l.waits(k, now) {
			l.touch(k)
		}
	}
}

// begin is for an audit. If the first one can't read the table, nothing is
// believed to be there.
func (l *lane[K, V]) begin(read bool) {
	first := !l.begun
	l.begun = true
	if !first || read {
		return
	}
	for k := range l.wishes.All() {
		l.differ.put(k, belief[V]{})
	}
}

// next returns what has to happen to the marked rows and those whose retry is
// due, and takes the marks off. Those that are held back are looked at again when
// they are recalled.
func (l *lane[K, V]) next(now time.Time) diff.Delta[K, V] {
	l.touch(l.due(now)...)
	l.touch(l.takeRecalled()...)
	var d diff.Delta[K, V]
	if len(l.dirty) == 0 {
		return d
	}
	slices.SortFunc(l.dirty, l.compare)
	marked := slices.Compact(l.dirty)
	l.dirty = emptied(l.dirty) // of which marked is a part, but nothing is marked meanwhile
	for i, k := range marked {
		h, hasH := l.get(k)
		w, hasW := l.want(k)
		if held(l.mayAdd, k, hasW && !hasH) || held(l.mayRemove, k, hasH && !hasW) {
			l.forget(k) // it waits for something else, not for a time
			l.holdBack(k)
			continue
		}
		l.held.drop(k)
		switch asWished := hasH == hasW && h == w; {
		case asWished && hasW && l.doubts(k):
			d.Update = append(d.Update, diff.Change[K, V]{Key: k, Old: h, New: w})
		case asWished:
			l.forget(k)
		default:
			if hasW && !hasH && d.Add == nil {
				d.Add = make([]diff.Row[K, V], 0, len(marked)-i)
			}
			d.Note(k, h, hasH, w, hasW)
		}
	}
	return d
}

// emptied is a list without its rows, and with its room, if that is not too much to
// keep for the next ones.
func emptied[T any](list []T) []T {
	if cap(list) > chunkRows/4 {
		return nil
	}
	return list[:0]
}

func held[K comparable](may func(K) bool, k K, concerned bool) bool {
	return concerned && may != nil && !may(k)
}

// advance takes the outcome of a delta for the truth about its rows.
func (l *lane[K, V]) advance(d diff.Delta[K, V], r kernel.Result[K], now time.Time) {
	for _, row := range d.Remove {
		if !l.failed(row.Key, r, now) {
			l.learn(row.Key, belief[V]{})
		}
	}
	for _, row := range d.Add {
		if !l.failed(row.Key, r, now) {
			l.learn(row.Key, belief[V]{row.Value, true})
		}
	}
	for _, c := range d.Update {
		if !l.failed(c.Key, r, now) {
			l.learn(c.Key, belief[V]{c.New, true})
		}
	}
}

// observe takes those of rows for what the kernel holds that are wished, believed
// to be ours, or ours by the evidence of the kernel itself. It counts the rows
// that are not as the kernel's own answers left them: somebody else has changed
// them. Before the first listing nothing is known, and of a row in doubt neither.
func (l *lane[K, V]) observe(rows map[K]V, ours func(K) bool) (strayed int) {
	var differ elastic[K, belief[V]]
	differ.reserve(l.wishes.Len() - len(rows))
	there, missing := 0, l.there
	for k, r := range rows {
		h, believed := l.get(k)
		if believed {
			missing--
		}
		w, wished := l.wishes.Get(k)
		if !wished && !believed && !l.stays(k) && !ours(k) {
			continue
		}
		there++
		if (!believed || h != r) && !l.doubts(k) {
			strayed++
		}
		if !wished || w != r {
			differ.put(k, belief[V]{r, true})
		}
	}
	for k := range l.wishes.All() {
		if _, there := rows[k]; !there {
			differ.put(k, belief[V]{})
		}
	}
	strayed += missing - l.missed(rows)
	if !l.listed {
		strayed = 0
	}
	l.differ, l.there, l.listed = differ, there, true
	l.listedAll(l.written)
	return strayed
}

func (l *lane[K, V]) stays(k K) bool {
	_, wanted := l.want(k)
	return wanted
}

// missed counts the rows in doubt that are believed to be there and are not.
func (l *lane[K, V]) missed(rows map[K]V) int {
	n := 0
	for k := range l.doubt.rows {
		_, believed := l.get(k)
		if _, there := rows[k]; believed && !there {
			n++
		}
	}
	return n
}

// stale says whether a row is not as wished, and does not wait for its retry.
func (l *lane[K, V]) stale(k K) bool { return l.differ.has(k) && !l.retries.has(k) }

// surelyHas and mayHave say whether the row is, or may be, in the kernel, for
// all that is known.
func (l *lane[K, V]) surelyHas(k K) bool {
	_, there := l.get(k)
	return there && !l.doubts(k)
}

func (l *lane[K, V]) mayHave(k K) bool {
	_, there := l.get(k)
	return there || l.doubts(k)
}
