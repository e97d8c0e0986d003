// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// edit is what became of one real server.
type edit struct {
	real state.Real
	gone bool
}

// advance takes the outcome of a delta for the truth about its rows. The delta is
// sorted, as next returned it.
func (l *flock) advance(d realDelta, r realResult, now time.Time) {
	take := func(k state.RealServerKey, v state.RealServer, gone bool) {
		if !l.failed(k, r, now) {
			l.edits = append(l.edits, edit{state.RealOf(k.Address, v), gone})
		}
	}
	for d.Len() > 0 {
		k := firstServer(d)
		l.edits = l.edits[:0]
		for ; len(d.Remove) > 0 && d.Remove[0].Key.Server == k; d.Remove = d.Remove[1:] {
			take(d.Remove[0].Key, d.Remove[0].Value, true)
		}
		for ; len(d.Update) > 0 && d.Update[0].Key.Server == k; d.Update = d.Update[1:] {
			take(d.Update[0].Key, d.Update[0].New, false)
		}
		for ; len(d.Add) > 0 && d.Add[0].Key.Server == k; d.Add = d.Add[1:] {
			take(d.Add[0].Key, d.Add[0].Value, false)
		}
		l.learn(k)
	}
}

// firstServer is the first virtual server that d, sorted and not empty, is about.
func firstServer(d realDelta) state.VirtualServerKey {
	var keys [3]state.VirtualServerKey
	known := keys[:0]
	if len(d.Remove) > 0 {
		known = append(known, d.Remove[0].Key.Server)
	}
	if len(d.Update) > 0 {
		known = append(known, d.Update[0].Key.Server)
	}
	if len(d.Add) > 0 {
		known = append(known, d.Add[0].Key.Server)
	}
	return slices.MinFunc(known, state.VirtualServerKey.Compare)
}

// learn makes the edits in what is believed of a virtual server.
func (l *flock) learn(k state.VirtualServerKey) {
	slices.SortFunc(l.edits, func(a, b edit) int { return a.real.Compare(b.real) })
	before, edits := l.of(k), l.edits
	after := l.merged[:0]
	for len(before) > 0 || len(edits) > 0 {
		order := -1
		switch {
		case len(before) == 0:
			order = 1
		case len(edits) > 0:
			order = before[0].Compare(edits[0].real)
		}
		if order < 0 {
			after = append(after, before[0])
		} else if !edits[0].gone {
			after = append(after, edits[0].real)
		}
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			edits = edits[1:]
		}
	}
	l.there += len(after) - len(l.of(k))
	l.merged = after
	l.hold(k, after)
	if rs, differs := l.differ.get(k); differs {
		l.differ.put(k, slices.Clone(rs)) // not the scratch
	}
}

// observe takes rows for what the kernel holds of the virtual servers that are
// ours, and counts those that are not as the kernel's own answers left them.
func (l *flock) observe(rows map[state.VirtualServerKey]state.Reals, ours func(state.VirtualServerKey) bool) (strayed int) {
	odd := map[state.VirtualServerKey]state.Reals{}
	l.there = 0
	for k, rs := range rows {
		if !ours(k) {
			continue
		}
		l.there += len(rs)
		if !slices.Equal(rs, l.wishes.Of(k)) {
			odd[k] = slices.Clone(rs) // to keep one is not to keep all
		}
	}
	for k := range l.wishes.Servers() {
		if (len(rows[k]) == 0 || !ours(k)) && len(l.wishes.Of(k)) > 0 {
			odd[k] = nil
		}
	}
	if l.listed {
		strayed = l.strayed(odd)
	}
	l.differ = elastic[state.VirtualServerKey, state.Reals]{rows: odd, most: len(odd)}
	l.listed = true
	l.listedAll(l.written)
	return strayed
}

// strayed counts what somebody else changed: odd are the real servers of all
// virtual servers that are not as wished.
func (l *flock) strayed(odd map[state.VirtualServerKey]state.Reals) int {
	n := 0
	count := func(k state.VirtualServerKey, seen state.Reals) {
		for h, r := range state.Both(l.of(k), seen) {
			if h != nil && r != nil && *h == *r {
				continue
			}
			either := h
			if h == nil {
				either = r
			}
			if !l.doubts(either.Key(k)) {
				n++
			}
		}
	}
	for k, rs := range odd {
		count(k, rs)
	}
	for k := range l.differ.rows {
		if _, counted := odd[k]; !counted {
			count(k, l.wishes.Of(k))
		}
	}
	return n
}
