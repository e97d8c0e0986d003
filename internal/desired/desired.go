// SPDX-License-Identifier: Apache-2.0

// Package desired merges the fragments of many owners into one desired state and says which rows a change touches. It
// is pure and keeps no kernel state.
//
// Two owners may want one row: two Services that share a node-local endpoint, or two that claim one address and port.
// The winner is the base, then the Service with the better right to it (state.Rank), then the older one, then the first
// by name; the same everywhere and at every start. A real server is desired only if its owner also won the virtual
// server, and so is a set entry that is about one, or leads packets to one: Services never mix their endpoints, nor the
// clients they let in.
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

// Owner is a Service that wants a row, or the base for the zero Owner: all that is desired without any Service.
type Owner struct{ Namespace, Name string }

// String is "namespace/name", and "base" for the zero Owner.
func (o Owner) String() string {
	if o == (Owner{}) {
		return "base"
	}
	return o.Namespace + "/" + o.Name
}

// claimant is an owner with its precedence and the rows that it claims at present.
type claimant struct {
	owner   Owner
	created int64 // Unix seconds, as fine as the API has it
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

// Desired is what all owners want, merged: a record with a part for each table (state.Part).
type Desired struct {
	Sysctls        Table[state.SysctlName, string]
	Sets           Table[state.SetName, state.Set]
	Entries        Entries
	Chains         Table[state.ChainKey, state.Chain]
	Jumps          Table[state.JumpKey, state.Jump]
	Links          Table[state.LinkName, state.Link]
	VirtualServers Table[state.VirtualServerKey, state.VirtualServer]
	RealServers    RealServers
	Addresses      Table[state.Address, state.Binding]

	owners map[Owner]*claimant
	shared []sharedTable // without rows of Services
	tables []table       // all
}

// New returns a Desired without rows.
func New() *Desired {
	d := &Desired{
		owners:         map[Owner]*claimant{},
		Sysctls:        newShared[state.SysctlName, string](state.Sysctls),
		Sets:           newShared[state.SetName, state.Set](state.Sets),
		Chains:         newShared[state.ChainKey, state.Chain](state.Chains),
		Jumps:          newShared[state.JumpKey, state.Jump](state.Jumps),
		Links:          newShared[state.LinkName, state.Link](state.Links),
		VirtualServers: newTable(state.VirtualServers, servers, rankOfServer),
		Addresses:      newTable(state.Addresses, addresses, rankOfAddress),
	}
	d.Entries = Entries{d.VirtualServers, newTable(state.Entries, entries, rankOfEntry), new(int)}
	d.RealServers = RealServers{d.VirtualServers, new(int)}
	d.shared = []sharedTable{d.Sysctls, d.Sets, d.Chains, d.Jumps, d.Links}
	d.tables = []table{d.Sysctls, d.Sets, d.Entries, d.Chains, d.Jumps, d.Links, d.VirtualServers, d.RealServers, d.Addresses}
	return d
}

// table is one of Desired without the types of its rows.
type table interface {
	collect(*state.State)
	families(*Touched) state.Families
	// mergeFirst sets in b what the rows were before the first of two changes, a and then b.
	mergeFirst(a, b *Touched)
}

// sharedTable is a table that does not grow with the cluster.
type sharedTable interface {
	changeShared(before, c *claimant, touched *Touched)
}

// Touched has the rows of which the desired value or the owner changed, as they were before, each once, and the
// conflicts that came up. It is a record with a part for each table.
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

// Upsert makes f what o wants. The time at which o was created decides conflicts.
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

// claimAnew is for a Service that was deleted and made again under its name, or claims by another right what it had: it
// keeps the rows that stay the same, but not its place among the claimants.
func (d *Desired) claimAnew(c *claimant, created time.Time, h holdings) Touched {
	gone := d.replace(c, holdings{})
	c.created = created.Unix()
	back := d.replace(c, h)
	for _, t := range d.tables {
		t.mergeFirst(&gone, &back)
	}
	return back
}

// Delete takes back all that o wanted.
func (d *Desired) Delete(o Owner) Touched {
	c, known := d.owners[o]
	if !known {
		return Touched{}
	}
	delete(d.owners, o)
	return d.replace(c, holdings{})
}

// Claims are the rows that an owner wants, of the tables that grow with the cluster.
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

// ClaimsOf are those of one owner: none, if it is not known.
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
	if b.shared != nil || h.shared != nil {
		before := &claimant{holdings: b}
		for _, t := range d.shared {
			t.changeShared(before, c, &touched)
		}
	}
	for _, r := range byServer.Add {
		touched.Conflicts = append(touched.Conflicts, d.conflictOf(r.Key, c)...)
	}
	for _, r := range byEntry.Add {
		touched.Conflicts = append(touched.Conflicts, d.portConflicts(r.Key, c)...)
	}
	return touched
}

// Leading are the desired entries that lead packets to the virtual server k.
func (d *Desired) Leading(k state.VirtualServerKey) []state.SetEntry {
	won, claimed := d.VirtualServers.winners[k]
	if !claimed {
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

// Conflicts are those that there are now: in the order of the virtual servers, and then of the ports for health checks.
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

// Families are those of the rows in t.
func (d *Desired) Families(t *Touched) state.Families {
	found := state.NoFamily
	for _, table := range d.tables {
		found |= table.families(t)
	}
	return found
}

// State is all that is desired as tables of its own, for display and comparison.
func (d *Desired) State() state.State {
	var s state.State
	for _, t := range d.tables {
		t.collect(&s)
	}
	return s
}
