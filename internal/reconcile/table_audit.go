// SPDX-License-Identifier: Apache-2.0

package reconcile

import "time"

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

// observe takes in what an audit listed, and counts the rows that another program changed. Rows of a shared table
// that are not as desired are marked; those of Services are queued (Core.gather).
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

// compare takes those of rows for what the kernel holds that are desired, believed to be ours, or ours by the
// evidence of the kernel itself. It counts the rows that are not as the kernel's own answers left them. Before the
// first listing nothing is known, and of a row in doubt neither.
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
