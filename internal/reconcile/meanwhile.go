// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
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
func (c *Core) correct(s *state.State) (lacking bool) {
	c.entries.reshaped = c.entries.reshaped || c.sets.reshaped
	c.realServers.reshaped = c.virtualServers.reshaped // those of one virtual server are listed at once
	c.addresses.reshaped = c.addresses.reshaped || c.links.reshaped
	whole := [Tables]bool{
		correct(&c.sysctls, &s.Sysctls), correct(&c.sets, &s.Sets), correct(&c.entries, &s.Entries),
		correct(&c.chains, &s.Chains), correct(&c.jumps, &s.Jumps), correct(&c.links, &s.Links),
		correct(&c.virtualServers, &s.VirtualServers),
		patch(&c.realServers.meanwhile, c.realServers.get, c.realServers.there, &s.RealServers),
		correct(&c.addresses, &s.Addresses),
	}
	return slices.Contains(whole[:], false)
}

func correct[K, V comparable](l *lane[K, V], rows *map[K]V) (whole bool) {
	return patch(&l.meanwhile, l.get, l.there, rows)
}

// patch is correct for one table, of whose rows get tells what is believed, and of
// which so many are believed to be there. It says whether there is nothing to list
// again.
func patch[K, V comparable](m *meanwhile[K], get func(K) (V, bool), there int, rows *map[K]V) (whole bool) {
	if *rows == nil {
		return true
	}
	for k := range m.written {
		if v, believed := get(k); believed {
			(*rows)[k] = v
		} else {
			delete(*rows, k)
		}
	}
	if !m.reshaped {
		return true
	}
	for k := range *rows {
		if _, believed := get(k); believed {
			there--
		}
	}
	if there > 0 {
		*rows = nil
	}
	return *rows != nil
}
