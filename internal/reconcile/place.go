// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Another program may want its rules to come first as well, and put them there each time that ours were. No side wins
// that, and each move has its price. So a jump is brought back to its place some times; if that does not hold, it is
// left where it is, and a warning is logged. It is ours to move again once an audit finds it in its place.
const (
	// maxMoves is how many times a jump is brought back.
	maxMoves = 3
	// moveHolds is after how long a move counts as one that held.
	moveHolds = time.Hour
)

// contest is what was done for the place of one jump.
type contest struct {
	moves int
	last  time.Time
	lost  bool
}

// Displaced is a jump that is left behind a rule of another program.
type Displaced struct {
	Jump   state.JumpKey
	Behind string // the rule
}

// Displaced are all such jumps, sorted.
func (c *Core) Displaced() []Displaced {
	var list []Displaced
	for _, k := range slices.SortedFunc(maps.Keys(c.contests), state.JumpKey.Compare) {
		if c.contests[k].lost {
			v, _ := c.jumps.get(k)
			list = append(list, Displaced{Jump: k, Behind: v.Behind})
		}
	}
	return list
}

// wantJump leaves a jump behind the rule that it was not to be brought before.
func (c *Core) wantJump(k state.JumpKey) (state.Jump, bool) {
	w, wanted := c.desired.Jumps.Get(k)
	if c.contests[k].lost {
		h, _ := c.jumps.get(k)
		w.Behind = h.Behind
	}
	return w, wanted
}

// judgePlaces is for an audit that has seen the jumps.
func (c *Core) judgePlaces(now time.Time) {
	maps.DeleteFunc(c.contests, func(k state.JumpKey, t contest) bool {
		v, there := c.jumps.get(k)
		switch {
		case !there:
			return true
		case v.Behind == "":
			return t.lost || now.Sub(t.last) >= moveHolds
		}
		t.lost = t.lost || t.moves >= maxMoves
		c.contests[k] = t
		return false
	})
}

// moved counts the jumps that were brought back to their place.
func (c *Core) moved(d diff.Delta[state.JumpKey, state.Jump], r kernel.Result[state.JumpKey], now time.Time) {
	for _, change := range d.Update {
		if _, failed := r.Failed[change.Key]; failed || change.Old.Behind == "" || change.New.Behind != "" {
			continue
		}
		t := c.contests[change.Key]
		if now.Sub(t.last) >= moveHolds {
			t.moves = 0
		}
		t.moves, t.last = t.moves+1, now
		c.contests[change.Key] = t
	}
}

// logPlaces logs which jumps were given up since the last audit, and which are in their place again.
func (l *Loop) logPlaces() {
	now := l.core.Displaced()
	gone, came := Others(l.displaced, now), Others(now, l.displaced)
	l.displaced = now
	for _, d := range came {
		l.log.Warn("another program puts its rules before ours again and again; leaving ours where they are",
			zap.Stringer("jump", d.Jump), zap.String("behind", d.Behind), zap.Int("moves", maxMoves))
	}
	for _, d := range gone {
		l.log.Info("our rules are in their place again", zap.Stringer("jump", d.Jump))
	}
}

// Others are those of list whose jump is not in known.
func Others(list, known []Displaced) []Displaced {
	return only(list, func(d Displaced) bool {
		return !slices.ContainsFunc(known, func(k Displaced) bool { return k.Jump == d.Jump })
	})
}
