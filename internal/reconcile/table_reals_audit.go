// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// learnedReal is what became of one real server.
type learnedReal struct {
	real state.Real
	gone bool
}

// advance takes the outcome of a delta for the truth about its rows. The delta is sorted, as next made it.
func (l *realServerState) advance(now time.Time) {
	take := func(k state.RealServerKey, v state.RealServer, gone bool) {
		if !l.failed(k, *l.result, now) {
			l.learned = append(l.learned, learnedReal{state.RealOf(k.Address, v), gone})
		}
	}
	for d := *l.delta; d.Len() > 0; {
		k := firstServer(d)
		l.learned = l.learned[:0]
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

// learn merges what was learned into what is believed of a virtual server.
func (l *realServerState) learn(k state.VirtualServerKey) {
	slices.SortFunc(l.learned, func(a, b learnedReal) int { return a.real.Compare(b.real) })
	before, learned := l.of(k), l.learned
	after := l.merged[:0]
	for len(before) > 0 || len(learned) > 0 {
		order := -1
		switch {
		case len(before) == 0:
			order = 1
		case len(learned) > 0:
			order = before[0].Compare(learned[0].real)
		}
		if order < 0 {
			after = append(after, before[0])
		} else if !learned[0].gone {
			after = append(after, learned[0].real)
		}
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			learned = learned[1:]
		}
	}
	l.present += len(after) - len(l.of(k))
	l.merged = after
	l.hold(k, after)
	if rs, differs := l.differ.get(k); differs {
		l.differ.put(k, slices.Clone(rs)) // not the scratch
	}
}

func (l *realServerState) strayed() bool { return strayed(*l.result) }

// observe takes in what an audit listed, and counts the rows that another program changed.
func (l *realServerState) observe(now time.Time) (drift int) {
	defer l.endListing()
	rows := *l.reals
	first := !l.tracked
	l.tracked = true
	if rows == nil {
		if first {
			for k := range l.desired.Servers() {
				l.hold(k, nil)
			}
		}
		return 0
	}
	drift = l.compareAll(rows)
	l.observed(now)
	return drift
}

// compareAll takes rows for what the kernel holds of the virtual servers that are ours, and counts those that are not
// as the kernel's own answers left them.
func (l *realServerState) compareAll(rows state.Packed) (strayed int) {
	odd := state.Packed{}
	l.present = 0
	for k, rs := range rows {
		if !l.ours(k) {
			continue
		}
		l.present += len(rs)
		if !slices.Equal(rs, l.desired.Of(k)) {
			odd[k] = slices.Clone(rs) // to keep one is not to keep all
		}
	}
	for k := range l.desired.Servers() {
		if (len(rows[k]) == 0 || !l.ours(k)) && len(l.desired.Of(k)) > 0 {
			odd[k] = nil
		}
	}
	if l.listed {
		strayed = l.changed(odd)
	}
	l.differ = shrinkingMap[state.VirtualServerKey, state.Reals]{rows: odd, most: len(odd)}
	l.listed = true
	l.listedAll(l.written)
	return strayed
}

// changed counts what another program changed: odd are the real servers of all virtual servers that are not as desired.
func (l *realServerState) changed(odd state.Packed) int {
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
			count(k, l.desired.Of(k))
		}
	}
	return n
}

func (l *realServerState) rows() Rows {
	return Rows{Desired: l.desired.Len(), Present: l.present, Refused: l.retries.len()}
}
