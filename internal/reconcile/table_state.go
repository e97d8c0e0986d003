// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"iter"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// tableState is what Core knows of one table, and which of its rows have to be compared.
//
// What is believed of a row is what is desired of it, but for those in differ. So the rows that are right, soon all,
// take no memory and are compared with nothing.
type tableState[K state.Key[K], V comparable] struct {
	retryState[K]
	pendingWrites[K]
	heldBack[K]
	parts   parts[K, V]
	table   state.Table
	desired desiredRows[K, V]
	want    func(K) (V, bool) // what is desired, with what else is to stay
	ours    func(K) bool      // by the evidence of the kernel itself
	shared  bool              // by all Services: the table does not grow with the cluster

	// optional: some kernels lack its rows, and what they are for then works less well, but works.
	optional bool

	mayAdd, mayRemove func(K) bool        // a row that may not be added or removed yet is held back; nil: it may
	observed          func(now time.Time) // is called after an audit that could list the table; it may be nil

	differ  shrinkingMap[K, belief[V]] // our rows in the kernel, by its own answers
	present int                        // how many rows are believed to be there
	tracked bool                       // there has been an audit; before it, nothing is marked
	listed  bool                       // ... which could list the table
	dirty   []K                        // marked rows, perhaps more than once
}

// belief is what a row is believed to be in the kernel.
type belief[V comparable] struct {
	value V // the zero one unless there
	there bool
}

// desiredRows is a table of package desired.
type desiredRows[K, V comparable] interface {
	oneDesired[K, V]
	allDesired[K, V]
}

type oneDesired[K, V comparable] interface {
	Get(K) (V, bool)
	Owner(K) (desired.Owner, bool)
}

type allDesired[K, V comparable] interface {
	All() iter.Seq2[K, V]
	Len() int
}

// newTableState returns the state of a table of which nothing is known. Its parts of the records are found once, here.
func newTableState[K state.Key[K], V comparable](t state.Table, d desiredRows[K, V], r *records, ours func(K) bool) tableState[K, V] {
	return tableState[K, V]{
		table: t, desired: d, want: d.Get, ours: ours, shared: t.Shared(), optional: t == state.Sysctls,
		parts: parts[K, V]{
			touched: state.Part[[]desired.Was[K, V]](t, &r.touched),
			delta:   state.Part[diff.Delta[K, V]](t, &r.delta),
			result:  state.Part[kernel.Result[K]](t, &r.results),
			listed:  state.Part[map[K]V](t, &r.listed),
		},
	}
}

// parts are those of one table of the records.
type parts[K, V comparable] struct {
	touched *[]desired.Was[K, V]
	delta   *diff.Delta[K, V]
	result  *kernel.Result[K]
	listed  *map[K]V
}

func (l *tableState[K, V]) id() state.Table { return l.table }

// get returns what the row is believed to be in the kernel.
func (l *tableState[K, V]) get(k K) (V, bool) {
	if !l.tracked {
		var none V
		return none, false
	}
	if b, differs := l.differ.get(k); differs {
		return b.value, b.there
	}
	return l.desired.Get(k)
}

// believed yields all rows that are believed to be in the kernel.
func (l *tableState[K, V]) believed() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if !l.tracked {
			return
		}
		for k, w := range l.desired.All() {
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

// undesired yields the rows that are believed to be in the kernel and are not desired.
func (l *tableState[K, V]) undesired() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k, b := range l.differ.rows {
			if !b.there {
				continue
			}
			if _, wanted := l.desired.Get(k); !wanted && !yield(k) {
				return
			}
		}
	}
}

// hold makes b what is believed of a row.
func (l *tableState[K, V]) hold(k K, b belief[V]) {
	if w, wanted := l.desired.Get(k); b == (belief[V]{w, wanted}) {
		l.differ.drop(k)
		return
	}
	l.differ.put(k, b)
}

// learn is hold for a row about which the kernel answered.
func (l *tableState[K, V]) learn(k K, b belief[V]) {
	if _, there := l.get(k); there != b.there {
		l.present--
		if b.there {
			l.present += 2
		}
	}
	l.hold(k, b)
}

// note keeps what is believed of the touched rows as it was, while what is desired of them changed. It returns their
// keys.
func (l *tableState[K, V]) note(now time.Time) []K {
	rows := *l.parts.touched
	if !l.tracked || len(rows) == 0 {
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

func (l *tableState[K, V]) markTouched(now time.Time) (touched int) {
	l.touch(l.note(now)...)
	return len(*l.parts.touched)
}

// touch marks rows. One that waits for its retry is tried at once, since what failed may have been the old value.
func (l *tableState[K, V]) touch(keys ...K) {
	if l.tracked {
		l.dirty = append(l.dirty, keys...)
	}
}

// mark is touch for rows of which some may wait for their retry.
func (l *tableState[K, V]) mark(keys []K, now time.Time) {
	for _, k := range keys {
		if l.retries.len() == 0 || !l.waits(k, now) {
			l.touch(k)
		}
	}
}

// next sets the delta to what has to happen to the marked rows and those whose retry is due, and takes the marks off.
// Rows that are held back are looked at again when they are recalled.
func (l *tableState[K, V]) next(now time.Time) {
	l.touch(l.due(now)...)
	l.touch(l.takeRecalled()...)
	d := l.parts.delta
	if len(l.dirty) == 0 {
		return
	}
	slices.SortFunc(l.dirty, K.Compare)
	marked := slices.Compact(l.dirty)
	l.dirty = emptied(l.dirty) // marked is a part of it, but nothing is marked meanwhile
	for i, k := range marked {
		h, hasH := l.get(k)
		w, hasW := l.want(k)
		if isHeld(l.mayAdd, k, hasW && !hasH) || isHeld(l.mayRemove, k, hasH && !hasW) {
			l.forget(k) // it waits for something else, not for a time
			l.holdBack(k)
			continue
		}
		l.held.drop(k)
		switch asDesired := hasH == hasW && h == w; {
		case asDesired && hasW && l.doubts(k):
			d.Update = append(d.Update, diff.Change[K, V]{Key: k, Old: h, New: w})
		case asDesired:
			l.forget(k)
		default:
			if hasW && !hasH && d.Add == nil {
				d.Add = make([]diff.Row[K, V], 0, len(marked)-i)
			}
			d.Note(k, h, hasH, w, hasW)
		}
	}
}

// emptied is a list without its rows, and with its room, if that is not too much to keep.
func emptied[T any](list []T) []T {
	if cap(list) > chunkRows/4 {
		return nil
	}
	return list[:0]
}

func isHeld[K comparable](may func(K) bool, k K, concerned bool) bool {
	return concerned && may != nil && !may(k)
}

// advance takes the outcome of a delta for the truth about its rows.
func (l *tableState[K, V]) advance(now time.Time) {
	d, r := l.parts.delta, *l.parts.result
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

func (l *tableState[K, V]) strayed() bool { return !l.optional && strayed(*l.parts.result) }

// surelyHas reports whether the row is in the kernel for all that is known, and mayHave whether it may be.
func (l *tableState[K, V]) surelyHas(k K) bool {
	_, there := l.get(k)
	return there && !l.doubts(k)
}

func (l *tableState[K, V]) mayHave(k K) bool {
	_, there := l.get(k)
	return there || l.doubts(k)
}

// stale reports whether a row is not as desired, and does not wait for its retry.
func (l *tableState[K, V]) stale(k K) bool { return l.differ.has(k) && !l.retries.has(k) }

func (l *tableState[K, V]) rows() Rows {
	return Rows{Desired: l.desired.Len(), Present: l.present, Refused: l.retries.len()}
}

// track is for an audit. If the first one can't list the table, nothing is believed to be there.
func (l *tableState[K, V]) track(listed bool) {
	first := !l.tracked
	l.tracked = true
	if !first || listed {
		return
	}
	for k := range l.desired.All() {
		l.differ.put(k, belief[V]{})
	}
}

// observe takes in what an audit listed, and counts the rows that another program changed. Rows of a shared table that
// are not as desired are marked; those of Services are queued (Core.gather).
func (l *tableState[K, V]) observe(now time.Time) (drift int) {
	listed := *l.parts.listed
	l.track(listed != nil)
	defer l.endListing()
	if listed != nil {
		drift = l.compare(listed)
		if l.observed != nil {
			l.observed(now)
		}
	}
	if l.shared {
		for k := range l.differ.rows {
			if l.stale(k) {
				l.touch(k)
			}
		}
	}
	return drift
}

// compare takes those of rows for what the kernel holds that are desired, believed to be ours, or ours by the evidence
// of the kernel itself. It counts the rows that are not as the kernel's own answers left them. Before the first listing
// nothing is known, and of a row in doubt neither.
func (l *tableState[K, V]) compare(rows map[K]V) (strayed int) {
	var differ shrinkingMap[K, belief[V]]
	differ.reserve(l.desired.Len() - len(rows))
	present, missing := 0, l.present
	for k, r := range rows {
		h, believed := l.get(k)
		if believed {
			missing--
		}
		w, wanted := l.desired.Get(k)
		if !wanted && !believed && !l.stays(k) && !l.ours(k) {
			continue
		}
		present++
		if (!believed || h != r) && !l.doubts(k) {
			strayed++
		}
		if !wanted || w != r {
			differ.put(k, belief[V]{r, true})
		}
	}
	for k := range l.desired.All() {
		if _, there := rows[k]; !there {
			differ.put(k, belief[V]{})
		}
	}
	strayed += missing - l.missed(rows)
	if !l.listed {
		strayed = 0
	}
	l.differ, l.present, l.listed = differ, present, true
	l.listedAll(l.written)
	return strayed
}

func (l *tableState[K, V]) stays(k K) bool {
	_, wanted := l.want(k)
	return wanted
}

// missed counts the rows in doubt that are believed to be there and are not.
func (l *tableState[K, V]) missed(rows map[K]V) int {
	n := 0
	for k := range l.doubt.rows {
		_, believed := l.get(k)
		if _, there := rows[k]; believed && !there {
			n++
		}
	}
	return n
}
