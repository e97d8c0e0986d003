// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Balance is how far the kernel is from the wish.
func (c *Core) Balance(now time.Time) Balance {
	b := Balance{
		At: now, Wake: c.Wake(),
		Draining: c.book.Len(), Contested: c.desired.VirtualServers.Contested(), Owners: c.desired.Owners(),
		Rows: [Tables]Rows{
			c.sysctls.rows(), c.sets.rows(), c.entries.rows(), c.chains.rows(), c.jumps.rows(), c.links.rows(),
			c.virtualServers.rows(), c.realServers.rows(), c.addresses.rows(),
		},
	}
	b.IPv4, b.IPv6 = c.trouble(state.IPv4), c.trouble(state.IPv6)
	return b
}

func (l *lane[K, V]) rows() Rows {
	return Rows{Wished: l.size(), There: len(l.have), Refused: len(l.retries)}
}

// trouble is what the kernel refuses of family f. Sysctls are left out: some are
// not everywhere to be had, and what they are for then works less well, but works.
func (c *Core) trouble(f state.Family) Trouble {
	d := c.desired
	t := everyRow(&c.sets, f, familyOfSet, d.Sets.Owner)
	t = t.and(everyRow(&c.chains, f, familyOfChain, d.Chains.Owner))
	t = t.and(everyRow(&c.jumps, f, familyOfJump, d.Jumps.Owner))
	t = t.and(everyRow(&c.links, f, familyOfLink, d.Links.Owner))
	t = t.and(severalServices(&c.entries, f, familyOfEntry, d.Entries.Owner))
	t = t.and(severalServices(&c.virtualServers, f, familyOfServer, d.VirtualServers.Owner))
	t = t.and(severalServices(&c.realServers, f, familyOfRealServer, d.RealServers.Owner))
	return t.and(severalServices(&c.addresses, f, familyOfAddress, d.Addresses.Owner))
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
func everyRow[K, V comparable](l *lane[K, V], f state.Family, family func(K) Families, owner func(K) (desired.Owner, bool)) Trouble {
	var t Trouble
	for k, r := range l.retries {
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
func severalServices[K, V comparable](l *lane[K, V], f state.Family, family func(K) Families, owner func(K) (desired.Owner, bool)) Trouble {
	var t Trouble
	began := map[desired.Owner]time.Time{}
	for k, r := range l.retries {
		if !family(k).Has(f) {
			continue
		}
		t = t.and(Trouble{Refused: 1, Since: r.since})
		if r.since.After(l.took[familyIndex(f)]) {
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

// unfinished are the owners of whom a row is refused or waits for such a one.
func (c *Core) unfinished() map[desired.Owner]struct{} {
	d, who := c.desired, map[desired.Owner]struct{}{}
	waiting(&c.sets, d.Sets.Owner, who)
	waiting(&c.entries, d.Entries.Owner, who)
	waiting(&c.chains, d.Chains.Owner, who)
	waiting(&c.jumps, d.Jumps.Owner, who)
	waiting(&c.links, d.Links.Owner, who)
	waiting(&c.virtualServers, d.VirtualServers.Owner, who)
	waiting(&c.realServers, d.RealServers.Owner, who)
	waiting(&c.addresses, d.Addresses.Owner, who)
	return who
}

func waiting[K, V comparable](l *lane[K, V], owner func(K) (desired.Owner, bool), who map[desired.Owner]struct{}) {
	for k := range l.retries {
		if o, wished := owner(k); wished {
			who[o] = struct{}{}
		}
	}
	for _, k := range l.dirty {
		if o, wished := owner(k); wished {
			who[o] = struct{}{}
		}
	}
}
