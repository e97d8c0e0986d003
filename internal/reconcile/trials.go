// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A row that failed is tried again after retryFirst, then after twice as long
// each time, up to retryLast.
const (
	retryFirst = 100 * time.Millisecond
	retryLast  = 30 * time.Second
)

// trials are what the kernel refused of one table. They cost nothing while it
// refuses nothing, and no look goes through all of them.
type trials[K comparable] struct {
	// family is set where took is kept: when the kernel last took a row of
	// each family.
	family func(K) Families
	took   [2]time.Time

	retries elastic[K, retry]
	doubt   elastic[K, struct{}] // failed to change, but it may only be the answer that failed
	dates   schedule[K]          // of the retries; those that are not theirs any more count for nothing
	latest  time.Time            // a row was refused that had not been before

	version uint64 // of the retries
	sums    [2]sum // of each family
}

// sum is what there is to say of the retries of one family.
type sum struct {
	version uint64
	refused int
	since   time.Time // the first of them
}

type retry struct {
	since time.Time // it was refused first
	after time.Duration
	due   time.Time
}

// failed takes in what became of a row, and says whether it failed.
func (t *trials[K]) failed(k K, r kernel.Result[K], now time.Time) bool {
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
	t.dates.push(now.Add(after), k)
	t.doubt.put(k, struct{}{})
	return true
}

// forget is for a row that does not fail any more, or waits for something else.
func (t *trials[K]) forget(k K) {
	if t.retries.has(k) {
		t.retries.drop(k)
		t.version++
	}
}

// sum is of the rows of family f that are refused.
func (t *trials[K]) sum(f state.Family) sum {
	s := &t.sums[familyIndex(f)]
	if s.version == t.version {
		return *s
	}
	*s = sum{version: t.version}
	for k, r := range t.retries.rows {
		if t.family(k).Has(f) {
			s.refused++
			s.since = earlier(s.since, r.since)
		}
	}
	return *s
}

func (t *trials[K]) taken(k K, now time.Time) {
	if t.family == nil {
		return
	}
	families := t.family(k)
	for i := range t.took {
		if families&(1<<i) != 0 {
			t.took[i] = now
		}
	}
}

// hasten is for a row whose wish changed: what failed may have been the old one.
func (t *trials[K]) hasten(k K, now time.Time) {
	if r, waits := t.retries.get(k); waits {
		r.due = now
		t.retries.put(k, r)
	}
}

// waits says whether the row is only to be tried later.
func (t *trials[K]) waits(k K, now time.Time) bool {
	r, waits := t.retries.get(k)
	return waits && now.Before(r.due)
}

// first is the first date, if there is one.
func (t *trials[K]) first() (appointment[K], bool) {
	for len(t.dates.rows) > 0 {
		a := t.dates.rows[0]
		if r, waits := t.retries.get(a.key); waits && r.due.Equal(a.at) {
			return a, true
		}
		t.dates.pop()
	}
	return appointment[K]{}, false
}

// due takes the rows off whose date has come.
func (t *trials[K]) due(now time.Time) []K {
	var keys []K
	for a, any := t.first(); any && !now.Before(a.at); a, any = t.first() {
		t.dates.pop()
		keys = append(keys, a.key)
	}
	return keys
}

// wake is the time of the first retry, and late if there is none.
func (t *trials[K]) wake(late time.Time) time.Time {
	if a, any := t.first(); any && a.at.Before(late) {
		return a.at
	}
	return late
}

// listedAll ends the doubts about all rows but those that were written while they
// were listed.
func (t *trials[K]) listedAll(but map[K]struct{}) {
	var left elastic[K, struct{}]
	for k := range but {
		if t.doubt.has(k) {
			left.put(k, struct{}{})
		}
	}
	t.doubt = left
}

func (t *trials[K]) doubts(k K) bool { return t.doubt.has(k) }

// failing says whether a row failed and is tried again within that time.
func (t *trials[K]) failing(within time.Duration) bool {
	for _, r := range t.retries.rows {
		if r.after < within {
			return true
		}
	}
	return false
}

// unheard says whether rows of a family have been refused since the kernel last
// took one.
func (t *trials[K]) unheard(f state.Family) bool { return t.latest.After(t.took[familyIndex(f)]) }
