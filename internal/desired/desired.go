// SPDX-License-Identifier: Apache-2.0

// Package desired merges the fragments of many owners into one wished state
// and says which rows a change touches. It is pure and keeps no kernel state.
//
// Two owners may wish for one row: two Services that share a node-local
// endpoint, or two that claim one address and port. The winner is the base,
// then the older Service, then the first by name; the same everywhere and at
// every start. A real server is wished only if its owner also won the virtual
// server, and so is a set entry that steers packets to one by a mark: Services
// never mix their endpoints.
package desired

import (
	"cmp"
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

// claimant is an owner with its precedence and its present fragment.
type claimant struct {
	owner    Owner
	created  int64 // Unix seconds, as fine as the API tells it
	fragment state.Fragment
}

func (c *claimant) compare(o *claimant) int {
	return cmp.Or(
		cmp.Compare(min(1, len(c.owner.Name)), min(1, len(o.owner.Name))), // the base has no name
		cmp.Compare(c.created, o.created),
		cmp.Compare(c.owner.Namespace, o.owner.Namespace),
		cmp.Compare(c.owner.Name, o.owner.Name),
	)
}

func (c *claimant) before(o *claimant) bool { return c.compare(o) < 0 }

// Desired is the merged wish of all owners.
type Desired struct {
	owners map[Owner]*claimant

	Sysctls        Table[state.SysctlName, string]
	Sets           Table[state.SetName, state.Set]
	Entries        Dependent[state.SetEntry, state.Entry]
	Chains         Table[state.ChainKey, state.Chain]
	Jumps          Table[state.JumpKey, state.Jump]
	Links          Table[state.LinkName, state.Link]
	VirtualServers Table[state.VirtualServerKey, state.VirtualServer]
	RealServers    Dependent[state.RealServerKey, state.RealServer]
	Addresses      Table[state.Address, state.Binding]
}

// New returns a Desired in which nobody wishes anything.
func New() *Desired {
	servers := newTable[state.VirtualServerKey, state.VirtualServer]()
	return &Desired{
		owners:         map[Owner]*claimant{},
		Sysctls:        newTable[state.SysctlName, string](),
		Sets:           newTable[state.SetName, state.Set](),
		Entries:        newDependent(servers, SteersTo),
		Chains:         newTable[state.ChainKey, state.Chain](),
		Jumps:          newTable[state.JumpKey, state.Jump](),
		Links:          newTable[state.LinkName, state.Link](),
		VirtualServers: servers,
		RealServers:    newDependent(servers, belongsTo),
		Addresses:      newTable[state.Address, state.Binding](),
	}
}

// Touched names the rows whose wish changed, and the conflicts that came up.
type Touched struct {
	Sysctls        []state.SysctlName
	Sets           []state.SetName
	Entries        []state.SetEntry
	Chains         []state.ChainKey
	Jumps          []state.JumpKey
	Links          []state.LinkName
	VirtualServers []state.VirtualServerKey
	RealServers    []state.RealServerKey
	Addresses      []state.Address

	Conflicts []Conflict
}

// Conflict says that two owners claim one virtual server.
type Conflict struct {
	Key           state.VirtualServerKey
	Winner, Loser Owner
}

// Upsert makes f the wish of o, created at a time that decides conflicts.
func (d *Desired) Upsert(o Owner, created time.Time, f state.Fragment) Touched {
	c, known := d.owners[o]
	if !known {
		c = &claimant{owner: o, created: created.Unix()}
		d.owners[o] = c
	} else if c.created != created.Unix() {
		return d.recreate(c, created, f)
	}
	return d.replace(c, f)
}

// recreate is for a Service that was deleted and made again under its name: it
// keeps the rows that stay the same, but not its seniority.
func (d *Desired) recreate(c *claimant, created time.Time, f state.Fragment) Touched {
	gone := d.replace(c, state.Fragment{})
	c.created = created.Unix()
	back := d.replace(c, f)
	return Touched{
		Sysctls:        append(gone.Sysctls, back.Sysctls...),
		Sets:           append(gone.Sets, back.Sets...),
		Entries:        append(gone.Entries, back.Entries...),
		Chains:         append(gone.Chains, back.Chains...),
		Jumps:          append(gone.Jumps, back.Jumps...),
		Links:          append(gone.Links, back.Links...),
		VirtualServers: append(gone.VirtualServers, back.VirtualServers...),
		RealServers:    append(gone.RealServers, back.RealServers...),
		Addresses:      append(gone.Addresses, back.Addresses...),
		Conflicts:      back.Conflicts,
	}
}

// Delete takes back all that o wished.
func (d *Desired) Delete(o Owner) Touched {
	c, known := d.owners[o]
	if !known {
		return Touched{}
	}
	delete(d.owners, o)
	return d.replace(c, state.Fragment{})
}

// Owners is the number of owners, the base included.
func (d *Desired) Owners() int { return len(d.owners) }

func (d *Desired) replace(c *claimant, f state.Fragment) Touched {
	b := c.fragment
	c.fragment = f
	servers := diff.OfRows(b.VirtualServers, f.VirtualServers, state.VirtualServerKey.Compare)
	touched := Touched{
		Sysctls:        change(d.Sysctls, c, b.Sysctls, f.Sysctls, state.SysctlName.Compare),
		Sets:           change(d.Sets, c, b.Sets, f.Sets, state.SetName.Compare),
		Entries:        d.Entries.change(c, diff.OfRows(b.Entries, f.Entries, state.SetEntry.Compare)),
		Chains:         change(d.Chains, c, b.Chains, f.Chains, state.ChainKey.Compare),
		Jumps:          change(d.Jumps, c, b.Jumps, f.Jumps, state.JumpKey.Compare),
		Links:          change(d.Links, c, b.Links, f.Links, state.LinkName.Compare),
		VirtualServers: d.VirtualServers.change(c, servers),
		Addresses:      change(d.Addresses, c, b.Addresses, f.Addresses, state.Address.Compare),
	}
	touched.RealServers = d.RealServers.change(c, diff.OfRows(b.RealServers, f.RealServers, state.RealServerKey.Compare))
	for _, k := range touched.VirtualServers {
		touched.RealServers = append(touched.RealServers, d.rivals(k, c)...)
		touched.Entries = append(touched.Entries, d.rivalEntries(k, c)...)
	}
	for _, r := range servers.Add {
		touched.Conflicts = append(touched.Conflicts, d.conflicts(r.Key)...)
	}
	return touched
}

func change[K, V comparable](t Table[K, V], c *claimant, before, rows []diff.Row[K, V], compare func(a, b K) int) []K {
	return t.change(c, diff.OfRows(before, rows, compare))
}

// rivals are the real servers that others than c wish for the virtual server k:
// when c wins or leaves it, they fall or rise with it.
func (d *Desired) rivals(k state.VirtualServerKey, c *claimant) []state.RealServerKey {
	var keys []state.RealServerKey
	for _, other := range d.VirtualServers.claimants(k) {
		if other == c {
			continue
		}
		for _, r := range realServersOf(other.fragment, k) {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// rivalEntries are, likewise, the entries of others than c that steer to k.
func (d *Desired) rivalEntries(k state.VirtualServerKey, c *claimant) []state.SetEntry {
	var keys []state.SetEntry
	for _, other := range d.VirtualServers.claimants(k) {
		if other != c {
			keys = append(keys, steering(other.fragment, k)...)
		}
	}
	return keys
}

// Steering are the wished entries by whose mark packets reach the virtual server
// k. To find them costs the size of its owner's fragment.
func (d *Desired) Steering(k state.VirtualServerKey) []state.SetEntry {
	won, wished := d.VirtualServers.winners[k]
	if !wished {
		return nil
	}
	return steering(won.by.fragment, k)
}

func steering(f state.Fragment, k state.VirtualServerKey) []state.SetEntry {
	if k.Mark == 0 {
		return nil
	}
	var keys []state.SetEntry
	for _, r := range f.Entries {
		if to, steers := SteersTo(r.Key, r.Value); steers && to == k {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

func realServersOf(f state.Fragment, k state.VirtualServerKey) []diff.Row[state.RealServerKey, state.RealServer] {
	byServer := func(r diff.Row[state.RealServerKey, state.RealServer], k state.VirtualServerKey) int {
		return r.Key.Server.Compare(k)
	}
	from, _ := slices.BinarySearchFunc(f.RealServers, k, byServer)
	to := from
	for to < len(f.RealServers) && f.RealServers[to].Key.Server == k {
		to++
	}
	return f.RealServers[from:to]
}

func (d *Desired) conflicts(k state.VirtualServerKey) []Conflict {
	var all []Conflict
	claimants := d.VirtualServers.claimants(k)
	for _, loser := range claimants[1:] {
		all = append(all, Conflict{Key: k, Winner: claimants[0].owner, Loser: loser.owner})
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
