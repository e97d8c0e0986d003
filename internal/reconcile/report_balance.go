// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Balance is how far the kernel is from the desired state.
func (c *Core) Balance(now time.Time) Balance {
	b := Balance{
		At: now, Wake: c.expected(),
		Draining: c.drains.book.Len(), Contested: c.desired.VirtualServers.Contested(), Owners: c.desired.Owners(),
		Displaced: c.Displaced(),
	}
	for _, t := range c.tables {
		b.Rows[t.id()] = t.rows()
		b.IPv4, b.IPv6 = b.IPv4.and(t.trouble(state.IPv4)), b.IPv6.and(t.trouble(state.IPv6))
	}
	return b
}

// expected is when something is to happen at the latest. An audit that goes on is to be over when the next one would be
// due.
func (c *Core) expected() time.Time {
	wake := c.Wake()
	if end := c.audit.began.Add(c.options.SyncPeriod); c.phases.isAuditing() && end.Before(wake) {
		return end
	}
	return wake
}

func (l *tableState[K, V]) trouble(f state.Family) Trouble {
	switch {
	case l.optional:
		return Trouble{}
	case l.shared:
		return l.everyRow(f)
	}
	return severalServices(&l.retryState, f, l.desired.Owner)
}

func (l *realServerState) trouble(f state.Family) Trouble {
	return severalServices(&l.retryState, f, l.desired.Owner)
}

func (t Trouble) and(o Trouble) Trouble {
	return Trouble{Refused: t.Refused + o.Refused, Since: earlier(t.Since, o.Since), Blocked: earlier(t.Blocked, o.Blocked)}
}

// earlier is the first of two times, of which the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// everyRow is the trouble of a table of which all Services need each row. A row that is not desired any more blocks
// nothing.
func (l *tableState[K, V]) everyRow(f state.Family) Trouble {
	var t Trouble
	for k, r := range l.retries.rows {
		if !k.Families().Has(f) {
			continue
		}
		t = t.and(Trouble{Refused: 1, Since: r.since})
		if _, wanted := l.desired.Get(k); wanted {
			t.Blocked = earlier(t.Blocked, r.since)
		}
	}
	return t
}

// severalServices is the trouble of a table with rows of Services. It is blocked if rows of more than one Service have
// been refused since the kernel last took one: a single odd Service does not speak for the others.
func severalServices[K state.Key[K]](l *retryState[K], f state.Family, owner func(K) (desired.Owner, bool)) Trouble {
	all := l.sum(f)
	t := Trouble{Refused: all.rows, Since: all.since}
	if all.rows == 0 || !l.unheard(f) {
		return t
	}
	began := map[desired.Owner]time.Time{}
	for k, r := range l.retries.rows {
		if k.Families().Has(f) && r.since.After(l.took[f.Index()]) {
			o, _ := owner(k)
			began[o] = earlier(began[o], r.since)
		}
	}
	t.Blocked = second(began)
	return t
}

// second is when the second of them began, zero if there is none.
func second(began map[desired.Owner]time.Time) time.Time {
	var first, next time.Time
	for _, t := range began {
		if first.IsZero() || t.Before(first) {
			first, t = t, first
		}
		next = earlier(next, t)
	}
	return next
}

// unfinished reports whether a row of an owner is refused, or waits for such a one. It is asked when nothing is due: no
// row is marked then.
func (c *Core) unfinished(o desired.Owner) bool {
	for _, t := range c.shared {
		if t.waitsFor(o) {
			return true
		}
	}
	if c.entries.pending()+c.virtualServers.pending()+c.realServers.pending()+c.addresses.pending() == 0 {
		return false
	}
	claims := c.desired.ClaimsOf(o)
	return waitsAmong(&c.entries, claims.Entries, o) || waitsAmong(&c.virtualServers, claims.VirtualServers, o) ||
		waitsAmong(&c.addresses, claims.Addresses, o) ||
		slices.ContainsFunc(claims.VirtualServers, func(r diff.Row[state.VirtualServerKey, state.VirtualServer]) bool {
			won, _ := c.desired.VirtualServers.Owner(r.Key)
			return won == o && c.realServers.waitsIn(r.Key)
		})
}

func (l *tableState[K, V]) waitsFor(o desired.Owner) bool {
	if l.optional || l.pending() == 0 {
		return false
	}
	for k := range l.retries.rows {
		if won, wanted := l.desired.Owner(k); wanted && won == o {
			return true
		}
	}
	for k := range l.held.rows {
		if won, wanted := l.desired.Owner(k); wanted && won == o {
			return true
		}
	}
	return false
}

// waitsAmong is waitsFor among the rows that an owner claims: the others of the table can be many.
func waitsAmong[K state.Key[K], V comparable](l *tableState[K, V], rows []diff.Row[K, V], o desired.Owner) bool {
	if l.pending() == 0 {
		return false
	}
	return slices.ContainsFunc(rows, func(r diff.Row[K, V]) bool {
		won, _ := l.desired.Owner(r.Key)
		return won == o && (l.retries.has(r.Key) || l.held.has(r.Key))
	})
}

func (l *tableState[K, V]) pending() int { return l.retries.len() + l.held.len() }

func (l *realServerState) pending() int { return l.retries.len() + l.held.len() }

// waitsIn is waitsFor for the real servers of a virtual server.
func (l *realServerState) waitsIn(k state.VirtualServerKey) bool {
	return l.held.has(k) || l.retries.len() > 0 && slices.ContainsFunc(l.desired.Of(k), func(r state.Real) bool {
		return l.retries.has(r.Key(k))
	})
}
