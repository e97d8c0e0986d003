// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Balance is how far the kernel is from the wish.
func (c *Core) Balance(now time.Time) Balance {
	b := Balance{
		At: now, Wake: c.expected(),
		Draining: c.book.Len(), Contested: c.desired.VirtualServers.Contested(), Owners: c.desired.Owners(),
		Displaced: c.Displaced(),
		Rows: [Tables]Rows{
			c.sysctls.rows(), c.sets.rows(), c.entries.rows(), c.chains.rows(), c.jumps.rows(), c.links.rows(),
			c.virtualServers.rows(), c.realServers.rows(), c.addresses.rows(),
		},
	}
	b.IPv4, b.IPv6 = c.trouble(state.IPv4), c.trouble(state.IPv6)
	return b
}

// expected is when something is to happen at the latest. An audit that goes on is
// to be over when the next one would be due.
func (c *Core) expected() time.Time {
	wake := c.Wake()
	if end := c.auditBegan.Add(c.options.SyncPeriod); c.auditing && end.Before(wake) {
		return end
	}
	return wake
}

func (l *lane[K, V]) rows() Rows {
	return Rows{Desired: l.wishes.Len(), Present: l.there, Refused: l.retries.len()}
}

func (l *flock) rows() Rows {
	return Rows{Desired: l.wishes.Len(), Present: l.there, Refused: l.retries.len()}
}

// trouble is what the kernel refuses of family f. Sysctls are left out: some are
// not everywhere to be had, and what they are for then works less well, but works.
func (c *Core) trouble(f state.Family) Trouble {
	d := c.desired
	t := everyRow(&c.sets.trials, f, familyOfSet, d.Sets.Owner)
	t = t.and(everyRow(&c.chains.trials, f, familyOfChain, d.Chains.Owner))
	t = t.and(everyRow(&c.jumps.trials, f, familyOfJump, d.Jumps.Owner))
	t = t.and(everyRow(&c.links.trials, f, familyOfLink, d.Links.Owner))
	t = t.and(severalServices(&c.entries.trials, f, d.Entries.Owner))
	t = t.and(severalServices(&c.virtualServers.trials, f, d.VirtualServers.Owner))
	t = t.and(severalServices(&c.realServers.trials, f, d.RealServers.Owner))
	return t.and(severalServices(&c.addresses.trials, f, d.Addresses.Owner))
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

// everyRow is the trouble of a table with the node's own rows, each of which all
// Services need. One that is not wished any more is in nobody's way.
func everyRow[K comparable](l *trials[K], f state.Family, family func(K) Families, owner func(K) (desired.Owner, bool)) Trouble {
	var t Trouble
	for k, r := range l.retries.rows {
		if !family(k).Has(f) {
			continue
		}
		t = t.and(Trouble{Refused: 1, Since: r.since})
		if _, wished := owner(k); wished {
			t.Blocked = earlier(t.Blocked, r.since)
		}
	}
	return t
}

// severalServices is the trouble of a table with rows of Services. It is blocked
// if rows of more than one Service have been refused since the kernel last took
// one: a single odd Service does not speak for the others.
func severalServices[K comparable](l *trials[K], f state.Family, owner func(K) (desired.Owner, bool)) Trouble {
	all := l.sum(f)
	t := Trouble{Refused: all.refused, Since: all.since}
	if all.refused == 0 || !l.unheard(f) {
		return t
	}
	began := map[desired.Owner]time.Time{}
	for k, r := range l.retries.rows {
		if l.family(k).Has(f) && r.since.After(l.took[familyIndex(f)]) {
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

// unfinished reports whether a row that an owner wishes is refused, or waits for such
// a one. It is asked when nothing is due: no row is marked then.
func (c *Core) unfinished(o desired.Owner) bool {
	d := c.desired
	if open(&c.sets, o, d.Sets.Owner) || open(&c.chains, o, d.Chains.Owner) || open(&c.jumps, o, d.Jumps.Owner) || open(&c.links, o, d.Links.Owner) {
		return true
	}
	if c.entries.pending()+c.virtualServers.pending()+c.realServers.pending()+c.addresses.pending() == 0 {
		return false
	}
	claims := d.ClaimsOf(o)
	return openAmong(&c.entries, claims.Entries, o, d.Entries.Owner) ||
		openAmong(&c.virtualServers, claims.VirtualServers, o, d.VirtualServers.Owner) ||
		openAmong(&c.addresses, claims.Addresses, o, d.Addresses.Owner) ||
		slices.ContainsFunc(claims.VirtualServers, func(r diff.Row[state.VirtualServerKey, state.VirtualServer]) bool {
			won, _ := d.VirtualServers.Owner(r.Key)
			return won == o && c.realServers.open(r.Key)
		})
}

// open is for a table that does not grow with the cluster.
func open[K, V comparable](l *lane[K, V], o desired.Owner, owner func(K) (desired.Owner, bool)) bool {
	is := func(k K) bool {
		won, wished := owner(k)
		return wished && won == o
	}
	for k := range l.retries.rows {
		if is(k) {
			return true
		}
	}
	for k := range l.held.rows {
		if is(k) {
			return true
		}
	}
	return false
}

// openAmong is for the rows that an owner claims.
func openAmong[K, V comparable](l *lane[K, V], rows []diff.Row[K, V], o desired.Owner, owner func(K) (desired.Owner, bool)) bool {
	if l.pending() == 0 {
		return false
	}
	return slices.ContainsFunc(rows, func(r diff.Row[K, V]) bool {
		won, _ := owner(r.Key)
		return won == o && (l.retries.has(r.Key) || l.held.has(r.Key))
	})
}

func (l *lane[K, V]) pending() int { return l.retries.len() + l.held.len() }

func (l *flock) pending() int { return l.retries.len() + l.held.len() }

// open is for the real servers of a virtual server.
func (l *flock) open(k state.VirtualServerKey) bool {
	return l.held.has(k) || l.retries.len() > 0 && slices.ContainsFunc(l.wishes.Of(k), func(r state.Real) bool {
		return l.retries.has(r.Key(k))
	})
}
