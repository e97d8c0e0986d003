// SPDX-License-Identifier: Apache-2.0

// Package desired merges the fragments of many owners into one wished state
// and says which rows a change touches. It is pure and keeps no kernel state.
//
// Two owners may wish for one row: two Services that share a node-local
// endpoint, or two that claim one address and port. The winner is the base,
// then the Service with the better right to it (state.Rank), then the older one,
// then the first by name; the same everywhere and at every start. A real server
// is wished only if its owner also won the virtual server, and so is a set entry
// that is about one, or leads packets to one: Services never mix their
// endpoints, nor whom they let in.
package desired

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Owner is whose wish a row is: a Service, or the zero Owner for the base, that
// is all that is wished without any Service.
type Owner struct{ Namespace, Name string }

// String is "namespace/name", and "base" for the zero Owner.
func (o Owner) String() string {
	if o == (Owner{}) {
		return "base"
	}
	return o.Namespace + "/" + o.Name
}

// claimant is an owner with its precedence and what it wishes at present.
type claimant struct {
	owner   Owner
	created int64 // Unix seconds, as fine as the API tells it
	holdings
}

func (c *claimant) compare(o *claimant) int {
	return cmp.Or(
		cmp.Compare(min(1, len(c.owner.Name)), min(1, len(o.owner.Name))), // the base has no name
		cmp.Compare(c.created, o.created),
		cmp.Compare(c.owner.Namespace, o.owner.Namespace),
		cmp.Compare(c.owner.Name, o.owner.Name),
	)
}

// Desired is the merged wish of all owners.
type Desired struct {
	owners map[Owner]*claimant

	Sysctls        Table[state.SysctlName, string]
	Sets           Table[state.SetName, state.Set]
	Entries        Entries
	Chains         Table[state.ChainKey, state.Chain]
	Jumps          Table[state.JumpKey, state.Jump]
	Links          Table[state.LinkName, state.Link]
	VirtualServers Table[state.VirtualServerKey, state.VirtualServer]
	RealServers    RealServers
	Addresses      Table[state.Address, state.Binding]
}

// New returns a Desired in which nobody wishes anything.
func New() *Desired {
	d := &Desired{
		owners:         map[Owner]*claimant{},
		Sysctls:        newTable(sysctls, state.SysctlName.Compare, unranked),
		Sets:           newTable(sets, state.SetName.Compare, unranked),
		Chains:         newTable(chains, state.ChainKey.Compare, unranked),
		Jumps:          newTable(jumps, state.JumpKey.Compare, unranked),
		Links:          newTable(links, state.LinkName.Compare, unranked),
		VirtualServers: newTable(servers, state.VirtualServerKey.Compare, rankOfServer),
		Addresses:      newTable(addresses, state.Address.Compare, rankOfAddress),
	}
	d.Entries = Entries{d.VirtualServers, newTable(entries, state.SetEntry.Compare, rankOfEntry), new(int)}
	d.RealServers = RealServers{d.VirtualServers, new(int)}
	return d
}

// Touched tells of the rows whose wish changed what it was, each once, and of the
// conflicts that came up. A virtual server is also told of if only its owner
// changed.
type Touched struct {
	Sysctls        []Was[state.SysctlName, string]
	Sets           []Was[state.SetName, state.Set]
	Entries        []Was[state.SetEntry, state.Entry]
	Chains         []Was[state.ChainKey, state.Chain]
	Jumps          []Was[state.JumpKey, state.Jump]
	Links          []Was[state.LinkName, state.Link]
	VirtualServers []Was[state.VirtualServerKey, state.VirtualServer]
	RealServers    []WereReals
	Addresses      []Was[state.Address, state.Binding]

	Conflicts []Conflict
}

// Upsert makes f the wish of o, created at a time that decides conflicts.
func (d *Desired) Upsert(o Owner, created time.Time, f state.Fragment) Touched {
	c, known := d.owners[o]
	h := holdingsOf(f)
	if !known {
		c = &claimant{owner: o, created: created.Unix()}
		d.owners[o] = c
	} else if c.created != created.Unix() || c.reranked(&h) {
		return d.claimAnew(c, created, h)
	}
	return d.replace(c, h)
}

// claimAnew is for a Service that was deleted and made again under its name, or
// claims what it had by another right: it keeps the rows that stay the same, but
// not its place among those who claim them.
func (d *Desired) claimAnew(c *claimant, created time.Time, h holdings) Touched {
	gone := d.replace(c, holdings{})
	c.created = created.Unix()
	back := d.replace(c, h)
	return Touched{
		Sysctls:        first(gone.Sysctls, back.Sysctls),
		Sets:           first(gone.Sets, back.Sets),
		Entries:        first(gone.Entries, back.Entries),
		Chains:         first(gone.Chains, back.Chains),
		Jumps:          first(gone.Jumps, back.Jumps),
		Links:          first(gone.Links, back.Links),
		VirtualServers: first(gone.VirtualServers, back.VirtualServers),
		RealServers:    firstReals(gone.RealServers, back.RealServers),
		Addresses:      first(gone.Addresses, back.Addresses),
		Conflicts:      back.Conflicts,
	}
}

// first is what rows were before the first of two changes.
func first[K, V comparable](a, b []Was[K, V]) []Was[K, V] {
	known := make(map[K]struct{}, len(a))
	for _, w := range a {
		known[w.Key] = struct{}{}
	}
	for _, w := range b {
		if _, told := known[w.Key]; !told {
			a = append(a, w)
		}
	}
	return a
}

func firstReals(a, b []WereReals) []WereReals {
	known := len(a)
	for _, w := range b {
		if !slices.ContainsFunc(a[:known], func(o WereReals) bool { return o.Server == w.Server }) {
			a = append(a, w)
		}
	}
	return a
}

// Delete takes back all that o wished.
func (d *Desired) Delete(o Owner) Touched {
	c, known := d.owners[o]
	if !known {
		return Touched{}
	}
	delete(d.owners, o)
	return d.replace(c, holdings{})
}

// Claims are the rows that an owner wishes, of the tables that grow with the
// cluster.
type Claims struct {
	Owner          Owner
	Entries        []diff.Row[state.SetEntry, state.Entry]
	VirtualServers []diff.Row[state.VirtualServerKey, state.VirtualServer]
	Addresses      []diff.Row[state.Address, state.Binding]
}

// Claims yields those of all owners, in the order of their names.
func (d *Desired) Claims() iter.Seq[Claims] {
	names := func(a, b Owner) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}
	return func(yield func(Claims) bool) {
		for _, o := range slices.SortedFunc(maps.Keys(d.owners), names) {
			if !yield(d.ClaimsOf(o)) {
				return
			}
		}
	}
}

// ClaimsOf are those of one owner: none, if nobody knows it.
func (d *Desired) ClaimsOf(o Owner) Claims {
	c, known := d.owners[o]
	if !known {
		return Claims{Owner: o}
	}
	return Claims{o, c.entries, c.servers, c.addresses}
}

// Owners is the number of owners, the base included.
func (d *Desired) Owners() int { return len(d.owners) }

func (d *Desired) replace(c *claimant, h holdings) Touched {
	b := c.holdings
	byServer := diff.OfRows(b.servers, h.servers, state.VirtualServerKey.Compare)
	byEntry := diff.OfRows(b.entries, h.entries, state.SetEntry.Compare)
	depends := len(b.leading)+len(h.leading) > 0 || d.Entries.contested(byEntry, byServer, c)
	var wereEntries []wasEntry
	if depends {
		wereEntries = d.Entries.were(byEntry, byServer, c, h)
	}
	wereReals := d.RealServers.were(c, h)

	c.holdings = h
	touched := Touched{
		VirtualServers: d.VirtualServers.change(c, byServer),
		Addresses:      d.Addresses.change(c, diff.OfRows(b.addresses, h.addresses, state.Address.Compare)),
		Entries:        d.Entries.claims.change(c, byEntry),
	}
	if depends {
		touched.Entries = d.Entries.since(wereEntries)
	}
	touched.RealServers = d.RealServers.since(wereReals)
	if b.few != nil || h.few != nil {
		d.replaceFew(c, b, &touched)
	}
	for _, r := range byServer.Add {
		touched.Conflicts = append(touched.Conflicts, d.conflictOf(r.Key, c)...)
	}
	for _, r := range byEntry.Add {
		touched.Conflicts = append(touched.Conflicts, d.portConflicts(r.Key, c)...)
	}
	return touched
}

// replaceFew is for the tables of which Services have no rows.
func (d *Desired) replaceFew(c *claimant, before holdings, touched *Touched) {
	b := &claimant{holdings: before}
	touched.Sysctls = changeFew(d.Sysctls, b, c)
	touched.Sets = changeFew(d.Sets, b, c)
	touched.Chains = changeFew(d.Chains, b, c)
	touched.Jumps = changeFew(d.Jumps, b, c)
	touched.Links = changeFew(d.Links, b, c)
}

func changeFew[K, V comparable](t Table[K, V], before, c *claimant) []Was[K, V] {
	return t.change(c, diff.OfRows(t.rows(before), t.rows(c), t.compare))
}

// Leading are the wished entries that lead packets to the virtual server k.
func (d *Desired) Leading(k state.VirtualServerKey) []state.SetEntry {
	won, wished := d.VirtualServers.winners[k]
	if !wished {
		return nil
	}
	var found []state.SetEntry
	for _, r := range won.leading {
		if to, _ := r.Key.LeadsTo(r.Value); to == k {
			found = append(found, r.Key)
		}
	}
	return found
}

// Conflicts are those that there are now: in the order of the virtual servers, and
// then of the ports for health checks.
func (d *Desired) Conflicts() []Conflict {
	var all []Conflict
	for _, k := range slices.SortedFunc(maps.Keys(d.VirtualServers.losers), state.VirtualServerKey.Compare) {
		for _, loser := range d.VirtualServers.losers[k] {
			all = append(all, conflict(k, d.VirtualServers.winners[k], loser))
		}
	}
	var checks []state.SetEntry
	for e := range d.Entries.claims.winners {
		if e.Set.HealthChecks() {
			checks = append(checks, e)
		}
	}
	slices.SortFunc(checks, state.SetEntry.Compare)
	for _, e := range checks {
		for _, c := range d.Entries.claims.claimants(e) {
			all = append(all, d.portConflicts(e, c)...)
		}
	}
	return all
}

// State is the whole wish as tables of its own, for display and comparison.
func (d *Desired) State() state.State {
	return state.State{
		Sysctls:        maps.Collect(d.Sysctls.All()),
		Sets:           maps.Collect(d.Sets.All()),
		Entries:        maps.Collect(d.Entries.All()),
		Chains:         maps.Collect(d.Chains.All()),
		Jumps:          maps.Collect(d.Jumps.All()),
		Links:          maps.Collect(d.Links.All()),
		VirtualServers: maps.Collect(d.VirtualServers.All()),
		RealServers:    maps.Collect(d.RealServers.All()),
		Addresses:      maps.Collect(d.Addresses.All()),
	}
}
