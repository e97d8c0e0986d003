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
	realRow    = diff.Row[state.RealServerKey, state.RealServer]
	realChange = diff.Change[state.RealServerKey, state.RealServer]
	realDelta  = diff.Delta[state.RealServerKey, state.RealServer]
	realResult = kernel.Result[state.RealServerKey]
)

// realServerState is the tableState of the real servers, which are most of all rows. They are marked, believed and
// compared by virtual server: two sorted lists instead of a map.
type realServerState struct {
	retryState[state.RealServerKey]
	pendingWrites[state.RealServerKey]
	heldBack[state.VirtualServerKey]
	delta   *realDelta    // parts of records
	result  *realResult   //
	reals   *state.Packed //
	desired desired.RealServers
	book    *drain.Book
	keeps   func(state.VirtualServerKey) bool // as they are, though they are not desired
	ours    func(state.VirtualServerKey) bool

	mayAdd    func(state.VirtualServerKey) bool
	mayRemove func() bool
	observed  func(now time.Time) // is called after an audit that could list them

	differ  shrinkingMap[state.VirtualServerKey, state.Reals] // what is believed, where that is not what is desired
	present int
	tracked bool
	listed  bool

	dirty   []markedServer
	leaving []state.VirtualServerKey // that may have real servers that are to get no more packets

	learned []learnedReal // scratch
	merged  state.Reals   // scratch
}

// markedServer is a marked virtual server. Of one that has too many real servers for one delta only some rows are to be
// written: first those that are to get packets.
type markedServer struct {
	server state.VirtualServerKey
	rows   int // or all
}

const all = -1

func compareMarked(a, b markedServer) int {
	return cmp.Or(a.server.Compare(b.server), cmp.Compare(a.rows, b.rows))
}

func (*realServerState) id() state.Table { return state.RealServers }

// of returns the real servers of a virtual server that are believed to be in the kernel.
func (l *realServerState) of(k state.VirtualServerKey) state.Reals {
	if !l.tracked {
		return nil
	}
	if rs, differs := l.differ.get(k); differs {
		return rs
	}
	return l.desired.Of(k)
}

func (l *realServerState) get(k state.RealServerKey) (state.RealServer, bool) {
	return l.of(k.Server).Find(k.Address)
}

// hold makes rs what is believed of a virtual server.
func (l *realServerState) hold(k state.VirtualServerKey, rs state.Reals) {
	if slices.Equal(rs, l.desired.Of(k)) {
		l.differ.drop(k)
		return
	}
	l.differ.put(k, rs)
}

// note keeps what is believed as it was, while what is desired changed.
func (l *realServerState) note(w desired.WereReals) {
	rs, differs := l.differ.get(w.Server)
	if !differs {
		rs = w.Reals
	}
	l.hold(w.Server, rs)
}

func (l *realServerState) touch(servers ...state.VirtualServerKey) {
	for _, k := range servers {
		l.touchSome(k, all)
	}
}

func (l *realServerState) touchSome(k state.VirtualServerKey, rows int) {
	if l.tracked {
		l.dirty = append(l.dirty, markedServer{k, rows})
	}
}

// wanted is what is desired with draining in it: a draining real server is wanted at weight 0. h or w is nil if it is
// not there or not desired.
func (l *realServerState) wanted(k state.VirtualServerKey, h, w *state.Real) *state.Real {
	switch {
	case w != nil || h == nil:
		return w
	case k.Mark != 0 && l.keeps(k):
		return h
	case !l.book.HasServer(k) || !l.book.Has(h.Key(k)):
		return w
	}
	weightless := h.Weightless()
	return &weightless
}

// next sets the delta to what has to happen to the real servers of the marked virtual servers, as tableState.next does.
func (l *realServerState) next(now time.Time) {
	l.retry(now)
	l.touch(l.takeRecalled()...)
	slices.SortFunc(l.dirty, compareMarked)
	marked := slices.CompactFunc(l.dirty, func(a, b markedServer) bool { return a.server == b.server })
	for i, m := range marked {
		switch held := l.compareNext(marked[i:], now); {
		case held:
			l.holdBack(m.server)
		case m.rows == all:
			l.held.drop(m.server)
		}
	}
	l.dirty = emptied(l.dirty)
}

// retry marks what is due.
func (l *realServerState) retry(now time.Time) {
	for _, k := range l.due(now) {
		_, believed := l.get(k)
		if _, wanted := l.desired.Get(k); !wanted && !believed {
			l.forget(k)
			continue
		}
		l.touch(k.Server)
	}
}

// comparison is that of the real servers of one virtual server.
type comparison struct {
	markedServer
	now               time.Time
	mayAdd, mayRemove bool
	additionsOnly     bool // those that are to get packets
	delta             *realDelta
	held              bool
}

// compareNext adds to the delta what has to happen to the real servers of the first of marked, and reports whether some
// are held back.
func (l *realServerState) compareNext(marked []markedServer, now time.Time) (held bool) {
	m := marked[0]
	if !l.differ.has(m.server) && l.retries.len()+l.doubt.len() == 0 {
		return false
	}
	c := comparison{markedServer: m, now: now, mayAdd: l.mayAdd(m.server), mayRemove: l.mayRemove(), delta: l.delta}
	if c.mayAdd && c.delta.Add == nil {
		c.delta.Add = make([]realRow, 0, l.more(marked))
	}
	c.additionsOnly = m.rows != all && l.missing(m.server) > 0
	for h, w := range state.Both(l.of(m.server), l.desired.Of(m.server)) {
		l.decide(&c, h, l.wanted(m.server, h, w))
	}
	if c.additionsOnly && c.rows > 0 { // they are all in the delta, so others can leave
		l.leaving = append(l.leaving, m.server)
	}
	return c.held
}

// more is about how many rows have to be added.
func (l *realServerState) more(marked []markedServer) int {
	n := 0
	for _, m := range marked {
		if have, differs := l.differ.get(m.server); differs {
			n += max(0, len(l.desired.Of(m.server))-len(have))
		}
	}
	return n
}

// decide is for one real server, that is h and should be w.
func (l *realServerState) decide(c *comparison, h, w *state.Real) {
	if h != nil && w != nil && *h == *w {
		l.confirm(c, *w)
		return
	}
	if c.rows == 0 || c.additionsOnly && (w == nil || h != nil && w.Weight() == 0) {
		return
	}
	k := cmp.Or(h, w).Key(c.server)
	if l.waits(k, c.now) {
		return
	}
	if w != nil && h == nil && !c.mayAdd || w == nil && !c.mayRemove {
		l.forget(k) // it waits for something else, not for a time
		c.held = c.held || c.rows == all
		return
	}
	if c.rows != all {
		c.rows--
	}
	switch {
	case h == nil:
		c.delta.Add = append(c.delta.Add, realRow{Key: k, Value: w.Value()})
	case w == nil:
		c.delta.Remove = append(c.delta.Remove, realRow{Key: k, Value: h.Value()})
	default:
		c.delta.Update = append(c.delta.Update, realChange{Key: k, Old: h.Value(), New: w.Value()})
	}
}

// confirm is for a real server that is as desired, if the last answer can be believed.
func (l *realServerState) confirm(c *comparison, r state.Real) {
	if c.rows != all || l.retries.len()+l.doubt.len() == 0 {
		return
	}
	k := r.Key(c.server)
	switch {
	case !l.doubts(k):
		l.forget(k)
	case !l.waits(k, c.now):
		c.delta.Update = append(c.delta.Update, realChange{Key: k, Old: r.Value(), New: r.Value()})
	}
}

// leave adds to the delta the real servers that are to get no more packets, where others that stay can take them at
// once. Nothing has to be made for these, so they need not wait for it.
func (l *realServerState) leave(now time.Time, atMost int) {
	d := l.delta
	slices.SortFunc(l.leaving, state.VirtualServerKey.Compare)
	servers := slices.Compact(l.leaving)
	for ; len(servers) > 0 && d.Len() < atMost; servers = servers[1:] {
		k := servers[0]
		if !l.succeeded(k) {
			continue
		}
		c := comparison{markedServer: markedServer{k, atMost - d.Len()}, now: now, mayRemove: l.mayRemove(), delta: d}
		for h, w := range state.Both(l.of(k), l.desired.Of(k)) {
			if leaves(h, w) {
				l.decide(&c, h, l.wanted(k, h, w))
			}
		}
		if c.rows == 0 {
			break
		}
	}
	l.leaving = slices.Clone(servers)
}

// leaves reports whether a real server that gets packets should get no more.
func leaves(h, w *state.Real) bool {
	return h != nil && h.Weight() > 0 && (w == nil || w.Weight() == 0)
}

// succeeded reports whether a virtual server has a real server that stays.
func (l *realServerState) succeeded(k state.VirtualServerKey) bool {
	for h, w := range state.Both(l.of(k), l.desired.Of(k)) {
		if h != nil && w != nil && h.Weight() > 0 && w.Weight() > 0 && (l.doubt.len() == 0 || !l.doubts(h.Key(k))) {
			return true
		}
	}
	return false
}

// missing counts the real servers of a virtual server that are to be added, or to get packets in another way than they
// do, and that do not wait for their retry.
func (l *realServerState) missing(k state.VirtualServerKey) int {
	n := 0
	for h, w := range state.Both(l.of(k), l.desired.Of(k)) {
		if w != nil && (h == nil || w.Weight() > 0 && *h != *w) && (l.retries.len() == 0 || !l.retries.has(w.Key(k))) {
			n++
		}
	}
	return n
}

// distance counts the real servers of a virtual server that are not as wanted.
func (l *realServerState) distance(k state.VirtualServerKey) int {
	if !l.differ.has(k) {
		return 0
	}
	n := 0
	for h, w := range state.Both(l.of(k), l.desired.Of(k)) {
		if w = l.wanted(k, h, w); h == nil || w == nil || *h != *w {
			n++
		}
	}
	return n
}
