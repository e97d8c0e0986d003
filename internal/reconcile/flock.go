// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/drain"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type (
	realDelta  = diff.Delta[state.RealServerKey, state.RealServer]
	realResult = kernel.Result[state.RealServerKey]
)

// flock is the lane of the real servers, which are most of all rows. They are
// marked, believed and compared by virtual server: two sorted lists instead of a
// map.
type flock struct {
	trials[state.RealServerKey]
	meanwhile[state.RealServerKey]
	heldBack[state.VirtualServerKey]
	wishes desired.RealServers
	book   *drain.Book
	stays  func(state.VirtualServerKey) bool // as it is, though nobody wishes it

	mayAdd    func(state.VirtualServerKey) bool
	mayRemove func() bool

	differ elastic[state.VirtualServerKey, state.Reals] // what is believed, where that is not what is wished
	there  int
	begun  bool
	listed bool

	dirty   []portion
	leaving []state.VirtualServerKey // which may have real servers that are to get no more packets

	edits  []edit      // scratch
	merged state.Reals // scratch
}

// portion is a marked virtual server. Of one that has too many real servers for
// once only some rows are to be written: first those that are to get packets.
type portion struct {
	server state.VirtualServerKey
	rows   int // or all
}

const all = -1

func comparePortions(a, b portion) int {
	return cmp.Or(a.server.Compare(b.server), cmp.Compare(a.rows, b.rows))
}

// of are the real servers of a virtual server that are believed to be in the
// kernel.
func (l *flock) of(k state.VirtualServerKey) state.Reals {
	if !l.begun {
		return nil
	}
	if rs, differs := l.differ.get(k); differs {
		return rs
	}
	return l.wishes.Of(k)
}

func (l *flock) get(k state.RealServerKey) (state.RealServer, bool) {
	return l.of(k.Server).Find(k.Address)
}

// hold makes rs what is believed of a virtual server.
func (l *flock) hold(k state.VirtualServerKey, rs state.Reals) {
	if slices.Equal(rs, l.wishes.Of(k)) {
		l.differ.drop(k)
		return
	}
	l.differ.put(k, rs)
}

// note keeps what is believed as it was, while the wish has changed.
func (l *flock) note(w desired.WereReals) {
	rs, differs := l.differ.get(w.Server)
	if !differs {
		rs = w.Reals
	}
	l.hold(w.Server, rs)
}

func (l *flock) touch(servers ...state.VirtualServerKey) {
	for _, k := range servers {
		l.touchSome(k, all)
	}
}

func (l *flock) touchSome(k state.VirtualServerKey, rows int) {
	if l.begun {
		l.dirty = append(l.dirty, portion{k, rows})
	}
}

// begin is for an audit. If the first one can't read the table, nothing is
// believed to be there.
func (l *flock) begin(read bool) {
	first := !l.begun
	l.begun = true
	if !first || read {
		return
	}
	for k := range l.wishes.Servers() {
		l.hold(k, nil)
	}
}

// wanted is the wish with draining in it: a draining real server is wished at
// weight 0. h or w is nil if it is not there or not wished.
func (l *flock) wanted(k state.VirtualServerKey, h, w *state.Real) *state.Real {
	switch {
	case w != nil || h == nil:
		return w
	case k.Mark != 0 && l.stays(k):
		return h
	case !l.book.HasServer(k) || !l.book.Has(h.Key(k)):
		return w
	}
	weightless := h.Weightless()
	return &weightless
}

// next returns what has to happen to the real servers of the marked virtual
// servers, as lane.next does.
func (l *flock) next(now time.Time) realDelta {
	l.retry(now)
	l.touch(l.takeRecalled()...)
	var d realDelta
	slices.SortFunc(l.dirty, comparePortions)
	marked := slices.CompactFunc(l.dirty, func(a, b portion) bool { return a.server == b.server })
	for i, p := range marked {
		switch held := l.look(marked[i:], now, &d); {
		case held:
			l.holdBack(p.server)
		case p.rows == all:
			l.held.drop(p.server)
		}
	}
	l.dirty = emptied(l.dirty)
	return d
}

// more is about how many rows have to be added.
func (l *flock) more(marked []portion) int {
	n := 0
	for _, p := range marked {
		if have, differs := l.differ.get(p.server); differs {
			n += max(0, len(l.wishes.Of(p.server))-len(have))
		}
	}
	return n
}

// retry marks what is due.
func (l *flock) retry(now time.Time) {
	for _, k := range l.due(now) {
		_, believed := l.get(k)
		if _, wished := l.wishes.Get(k); !wished && !believed {
			l.forget(k)
			continue
		}
		l.touch(k.Server)
	}
}

// visit is one look at the real servers of a virtual server.
type visit struct {
	portion
	now               time.Time
	mayAdd, mayRemove bool
	coming            bool // only those that are to get packets
	delta             *realDelta
	held              bool
}

// look adds to d what has to happen to the real servers of the first of the rest,
// and says whether some are held back.
func (l *flock) look(rest []portion, now time.Time, d *realDelta) (held bool) {
	p := rest[0]
	if !l.differ.has(p.server) && l.retries.len()+l.doubt.len() == 0 {
		return false
	}
	v := visit{portion: p, now: now, mayAdd: l.mayAdd(p.server), mayRemove: l.mayRemove(), delta: d}
	if v.mayAdd && d.Add == nil {
		d.Add = make([]diff.Row[state.RealServerKey, state.RealServer], 0, l.more(rest))
	}
	v.coming = p.rows != all && l.missing(p.server) > 0
	for h, w := range state.Both(l.of(p.server), l.wishes.Of(p.server)) {
		l.decide(&v, h, l.wanted(p.server, h, w))
	}
	if v.coming && v.rows > 0 { // these have come; so others can leave
		l.leaving = append(l.leaving, p.server)
	}
	return v.held
}

// decide is for one real server, that is h and should be w.
func (l *flock) decide(v *visit, h, w *state.Real) {
	if h != nil && w != nil && *h == *w {
		l.confirm(v, *w)
		return
	}
	if v.rows == 0 || v.coming && (w == nil || h != nil && w.Weight() == 0) {
		return
	}
	k := cmp.Or(h, w).Key(v.server)
	if l.waits(k, v.now) {
		return
	}
	if w != nil && h == nil && !v.mayAdd || w == nil && !v.mayRemove {
		l.forget(k) // it waits for something else, not for a time
		v.held = v.held || v.rows == all
		return
	}
	if v.rows != all {
		v.rows--
	}
	switch {
	case h == nil:
		v.delta.Add = append(v.delta.Add, diff.Row[state.RealServerKey, state.RealServer]{Key: k, Value: w.Value()})
	case w == nil:
		v.delta.Remove = append(v.delta.Remove, diff.Row[state.RealServerKey, state.RealServer]{Key: k, Value: h.Value()})
	default:
		v.delta.Update = append(v.delta.Update, diff.Change[state.RealServerKey, state.RealServer]{Key: k, Old: h.Value(), New: w.Value()})
	}
}

// confirm is for a real server that is as wished, if the last answer can be
// believed.
func (l *flock) confirm(v *visit, r state.Real) {
	if v.rows != all || l.retries.len()+l.doubt.len() == 0 {
		return
	}
	k := r.Key(v.server)
	switch {
	case !l.doubts(k):
		l.forget(k)
	case !l.waits(k, v.now):
		v.delta.Update = append(v.delta.Update, diff.Change[state.RealServerKey, state.RealServer]{Key: k, Old: r.Value(), New: r.Value()})
	}
}

// leave returns the real servers that are to get no more packets, where others
// that stay can take them at once. Nothing has to be made for these, so they need
// not wait for it.
func (l *flock) leave(now time.Time, atMost int) realDelta {
	var d realDelta
	slices.SortFunc(l.leaving, state.VirtualServerKey.Compare)
	servers := slices.Compact(l.leaving)
	for ; len(servers) > 0 && d.Len() < atMost; servers = servers[1:] {
		k := servers[0]
		if !l.succeeded(k) {
			continue
		}
		v := visit{portion: portion{k, atMost - d.Len()}, now: now, mayRemove: l.mayRemove(), delta: &d}
		for h, w := range state.Both(l.of(k), l.wishes.Of(k)) {
			if leaving(h, w) {
				l.decide(&v, h, l.wanted(k, h, w))
			}
		}
		if v.rows == 0 {
			break
		}
	}
	l.leaving = slices.Clone(servers)
	return d
}

// leaving says whether a real server that gets packets should get no more.
func leaving(h, w *state.Real) bool {
	return h != nil && h.Weight() > 0 && (w == nil || w.Weight() == 0)
}

// succeeded says whether a virtual server has a real server that stays.
func (l *flock) succeeded(k state.VirtualServerKey) bool {
	for h, w := range state.Both(l.of(k), l.wishes.Of(k)) {
		if h != nil && w != nil && h.Weight() > 0 && w.Weight() > 0 && (l.doubt.len() == 0 || !l.doubts(h.Key(k))) {
			return true
		}
	}
	return false
}

// missing counts the real servers of a virtual server that are to be added, or to
// get packets in another way than they do, and that do not wait for their retry.
func (l *flock) missing(k state.VirtualServerKey) int {
	n := 0
	for h, w := range state.Both(l.of(k), l.wishes.Of(k)) {
		if w != nil && (h == nil || w.Weight() > 0 && *h != *w) && (l.retries.len() == 0 || !l.retries.has(w.Key(k))) {
			n++
		}
	}
	return n
}

// distance counts the real servers of a virtual server that are not as wished. One
// that drains is.
func (l *flock) distance(k state.VirtualServerKey) int {
	if !l.differ.has(k) {
		return 0
	}
	n := 0
	for h, w := range state.Both(l.of(k), l.wishes.Of(k)) {
		if w = l.wanted(k, h, w); h == nil || w == nil || *h != *w {
			n++
		}
	}
	return n
}
