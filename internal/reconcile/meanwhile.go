// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// An audit of a large cluster takes the kernel long. So that changes need not wait
// for it, they are written while the tables are listed (Work.Aside). Such a list
// may have a row that was written meanwhile as it was before, or as it is now: what
// the kernel answered to the write counts.
//
// And it may lack a row that was there all the time, if others came or went: the
// kernel goes on with a dump of virtual servers or addresses by counting rows. So
// that a row is missing in such a list proves nothing. If one is, the table is
// listed again while nothing is written.

// meanwhile is what was written of a table while it was listed.
type meanwhile[K comparable] struct {
	written  map[K]struct{}
	reshaped bool // rows came or went
}

func (m *meanwhile[K]) endListing() { *m = meanwhile[K]{} }

// wrote notes the rows of a delta, whatever became of them.
func wrote[K, V comparable](m *meanwhile[K], d diff.Delta[K, V]) {
	if d.Len() == 0 {
		return
	}
	if m.written == nil {
		m.written = map[K]struct{}{}
	}
	for _, r := range d.Remove {
		m.written[r.Key] = struct{}{}
	}
	for _, c := range d.Update {
		m.written[c.Key] = struct{}{}
	}
	for _, r := range d.Add {
		m.written[r.Key] = struct{}{}
	}
	m.reshaped = m.reshaped || len(d.Remove)+len(d.Add) > 0
}

// remember notes what is written while an audit goes on.
func (c *Core) remember(d state.Delta) {
	if !c.auditing {
		return
	}
	wrote(&c.sysctls.meanwhile, d.Sysctls)
	wrote(&c.sets.meanwhile, d.Sets)
	wrote(&c.entries.meanwhile, d.Entries)
	wrote(&c.chains.meanwhile, d.Chains)
	wrote(&c.jumps.meanwhile, d.Jumps)
	wrote(&c.links.meanwhile, d.Links)
	wrote(&c.virtualServers.meanwhile, d.VirtualServers)
	wrote(&c.realServers.meanwhile, d.RealServers)
	wrote(&c.addresses.meanwhile, d.Addresses)
}

// endListing forgets it again.
func (c *Core) endListing() {
	c.sysctls.endListing()
	c.sets.endListing()
	c.entries.endListing()
	c.chains.endListing()
	c.jumps.endListing()
	c.links.endListing()
	c.virtualServers.endListing()
	c.realServers.endListing()
	c.addresses.endListing()
}

// correct puts right in a list what was written meanwhile, and leaves tables out
// that lack rows for which that may be the reason. It says whether there were any.
func (c *Core) correct(s *state.State, reals *map[state.VirtualServerKey]state.Reals) (lacking bool) {
	c.entries.reshaped = c.entries.reshaped || c.sets.reshaped
	c.realServers.reshaped = c.virtualServers.reshaped // those of one virtual server are listed at once
	c.addresses.reshaped = c.addresses.reshaped || c.links.reshaped
	whole := [Tables]bool{
		correct(&c.sysctls, &s.Sysctls), correct(&c.sets, &s.Sets), correct(&c.entries, &s.Entries),
		correct(&c.chains, &s.Chains), correct(&c.jumps, &s.Jumps), correct(&c.links, &s.Links),
		correct(&c.virtualServers, &s.VirtualServers),
		c.realServers.correct(reals),
		correct(&c.addresses, &s.Addresses),
	}
	return slices.Contains(whole[:], false)
}

// correct is for one table. It says whether there is nothing to list again.
func correct[K, V comparable](l *lane[K, V], rows *map[K]V) (whole bool) {
	if *rows == nil {
		return true
	}
	for k := range l.meanwhile.written {
		if v, believed := l.get(k); believed {
			(*rows)[k] = v
		} else {
			delete(*rows, k)
		}
	}
	if !l.reshaped {
		return true
	}
	there := l.there
	for k := range *rows {
		if _, believed := l.get(k); believed {
			there--
		}
	}
	if there > 0 {
		*rows = nil
	}
	return *rows != nil
}

// correct is the same for real servers.
func (l *flock) correct(rows *map[state.VirtualServerKey]state.Reals) (whole bool) {
	if *rows == nil {
		return true
	}
	servers := map[state.VirtualServerKey]struct{}{}
	for k := range l.meanwhile.written {
		servers[k.Server] = struct{}{}
	}
	for k := range servers {
		(*rows)[k] = l.corrected(k, (*rows)[k])
	}
	if !l.reshaped {
		return true
	}
	there := l.there
	for k, rs := range *rows {
		for h, r := range state.Both(l.of(k), rs) {
			if h != nil && r != nil {
				there--
			}
		}
	}
	if there > 0 {
		*rows = nil
	}
	return *rows != nil
}

// corrected is what is listed of a virtual server, but for what was written.
func (l *flock) corrected(k state.VirtualServerKey, listed state.Reals) state.Reals {
	var rs state.Reals
	for h, r := range state.Both(l.of(k), listed) {
		either := cmp.Or(r, h)
		if _, written := l.meanwhile.written[either.Key(k)]; written {
			r = h
		}
		if r != nil {
			rs = append(rs, *r)
		}
	}
	return rs
}
