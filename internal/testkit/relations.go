// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The cases of rows that refer to each other.

func serverRows() state.State {
	s := state.New()
	s.VirtualServers = virtualServerTable().rows
	s.RealServers = realServersOf(s.VirtualServers)
	return s
}

func (c contract) serverTakesRealServers(t *testing.T) {
	b := c.begin(t, serverRows())
	for _, k := range []state.VirtualServerKey{server(state.IPv4, 1, state.TCP), server(state.IPv6, 1, state.UDP), state.MarkKey(state.IPv6, 256)} {
		maps.DeleteFunc(b.want.RealServers, func(r state.RealServerKey, _ state.RealServer) bool { return r.Server == k })
		row := []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: k, Value: virtualServerTable().rows[k]}}
		b.does(fmt.Sprint("removing ", k), state.Delta{VirtualServers: diff.Delta[state.VirtualServerKey, state.VirtualServer]{Remove: row}})
		b.does(fmt.Sprint("making again ", k), state.Delta{VirtualServers: diff.Delta[state.VirtualServerKey, state.VirtualServer]{Add: row}})
	}
}

func setRows() state.State {
	s := state.New()
	s.Sets = setTable().rows
	s.Entries = with(entriesOf(state.IPv4), entriesOf(state.IPv6))
	return s
}

func (c contract) setTakesEntries(t *testing.T) {
	b := c.begin(t, setRows())
	for _, n := range []state.SetName{setName(state.IPv4, state.HashIPPort), setName(state.IPv6, state.HashIPPortNet), setName(0, state.BitmapPort)} {
		maps.DeleteFunc(b.want.Entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set == n })
		row := []diff.Row[state.SetName, state.Set]{{Key: n, Value: setTable().rows[n]}}
		b.does("removing set "+string(n), state.Delta{Sets: diff.Delta[state.SetName, state.Set]{Remove: row}})
		b.does("making again set "+string(n), state.Delta{Sets: diff.Delta[state.SetName, state.Set]{Add: row}})
	}
}

func addressRows() state.State {
	s := state.New()
	s.Links = links()
	s.Addresses = addressTable().rows
	return s
}

func (c contract) linkTakesAddresses(t *testing.T) {
	b := c.begin(t, addressRows())
	clear(b.want.Addresses)
	b.does("removing the device", state.Delta{Links: diff.Of(links(), nil, state.LinkName.Compare)})
	b.does("making the device again", state.Delta{Links: diff.Of(nil, links(), state.LinkName.Compare)})
}

func (c contract) noDeviceNoAddress(t *testing.T) {
	b := c.begin(t, state.New())
	rows := diff.Of(nil, addressTable().rows, state.Address.Compare).Add
	for _, d := range []diff.Delta[state.Address, state.Binding]{{Add: rows}, {Update: updates(rows)}} {
		r := b.Addresses.Apply(context.Background(), d)
		for _, row := range rows {
			if !errors.Is(r.Failed[row.Key], fs.ErrNotExist) {
				t.Errorf("%v failed with %v, want fs.ErrNotExist", row.Key, r.Failed[row.Key])
			}
		}
	}
	r := b.Addresses.Apply(context.Background(), diff.Delta[state.Address, state.Binding]{Remove: rows})
	if len(r.Failed) > 0 || r.Drift != len(rows) {
		t.Errorf("removing addresses without the device: %v, want drift alone", r)
	}
	b.isAsWanted("all that")
}

// otherMeans binds all addresses by other means, to and fro, many and few.
func (c contract) otherMeans(t *testing.T) {
	b := c.begin(t, addressRows())
	for range 2 {
		for _, means := range []state.Means{state.Routed, state.Assigned} {
			for _, f := range families() {
				want := maps.Clone(b.want.Addresses)
				for a := range want {
					if state.FamilyOf(a.Addr) == f {
						want[a] = state.Binding{Means: means}
					}
				}
				b.does(fmt.Sprintf("binding %v addresses otherwise", f), state.Delta{Addresses: diff.Of(b.want.Addresses, want, state.Address.Compare)})
			}
		}
	}
}

// ruleRows returns chains with all that they need, and jumps to them.
func ruleRows() state.State {
	s := state.New()
	s.Sets = hashSets()
	s.Chains = chainTable().rows
	s.Jumps = jumpTable().rows
	return s
}

func (c contract) setInUse(t *testing.T) {
	rows := ruleRows()
	used := maps.Clone(rows.Sets)
	rows.Sets["KUBE-UNUSED"] = state.Set{Type: state.BitmapPort}
	b := c.begin(t, rows)
	delete(b.want.Sets, "KUBE-UNUSED")
	b.refuses("removing sets in use", state.Delta{Sets: diff.Of(rows.Sets, nil, state.SetName.Compare)}, len(used))
	b.does("removing jumps, chains and sets", state.Diff(ruleRows(), state.New()))
}

func (c contract) chainInUse(t *testing.T) {
	b := c.begin(t, ruleRows())
	remove := state.Delta{Chains: state.Diff(ruleRows(), state.New()).Chains}
	b.refuses("removing chains in use by jumps", remove, remove.Len())
	only := map[state.ChainKey]state.Chain{}
	for k, v := range chainTable().rows {
		if k.Name == "KUBE-B" {
			only[k] = v
		}
	}
	d := state.Delta{Chains: diff.Of(only, nil, state.ChainKey.Compare)}
	b.refuses("removing chains in use by chains", d, len(only))
	b.does("removing the jumps", state.Delta{Jumps: diff.Of(jumpTable().rows, nil, state.JumpKey.Compare)})
	b.refuses("removing chains in use by chains", d, len(only))
	b.does("removing the chains", remove)
}

// chainsTogether: a chain may go to one that the same delta adds or removes. A chain that can't be made also keeps out
// the chains that need it.
func (c contract) chainsTogether(t *testing.T) {
	b := c.begin(t, state.New())
	chain := func(f state.Family, name string) state.ChainKey {
		return state.ChainKey{Family: f, Table: state.NAT, Name: name}
	}
	for _, f := range families() {
		rows := map[state.ChainKey]state.Chain{
			chain(f, "KUBE-A"): state.ChainOf("-p tcp -j KUBE-B", "-j KUBE-C"),
			chain(f, "KUBE-B"): state.ChainOf("-j KUBE-C"),
			chain(f, "KUBE-C"): {},
		}
		b.does("adding chains", state.Delta{Chains: diff.Of(nil, rows, state.ChainKey.Compare)})
		update := diff.Delta[state.ChainKey, state.Chain]{
			Update: []diff.Change[state.ChainKey, state.Chain]{{Key: chain(f, "KUBE-C"), New: state.ChainOf("-j KUBE-D")}},
			Add:    []diff.Row[state.ChainKey, state.Chain]{{Key: chain(f, "KUBE-D")}},
		}
		b.does("updating a chain to one that is being added", state.Delta{Chains: update})
		rows[chain(f, "KUBE-C")], rows[chain(f, "KUBE-D")] = state.ChainOf("-j KUBE-D"), state.Chain{}
		b.does("removing chains", state.Delta{Chains: diff.Of(rows, nil, state.ChainKey.Compare)})

		rows[chain(f, "KUBE-D")] = state.ChainOf("-m set --match-set KUBE-NOWHERE dst -j RETURN")
		rows[chain(f, "KUBE-E")] = state.ChainOf("-j RETURN")
		r := b.Chains.Apply(context.Background(), diff.Of(nil, rows, state.ChainKey.Compare))
		for _, name := range []string{"KUBE-A", "KUBE-B", "KUBE-C", "KUBE-D"} {
			if err := r.Failed[chain(f, name)]; !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, which needs a set that is not there, failed with %v", name, err)
			}
		}
		b.want.Chains[chain(f, "KUBE-E")] = rows[chain(f, "KUBE-E")]
		b.isAsWanted("adding chains that need a bad one")
	}
}

func (c contract) headerKeepsEntries(t *testing.T) {
	rows := setRows()
	maps.Copy(rows.Chains, chainTable().rows) // a set that is in use
	b := c.begin(t, rows)
	larger, bare := map[state.SetName]state.Set{}, map[state.SetName]state.Set{}
	for k, v := range rows.Sets {
		if v.MaxElem > 0 {
			v.MaxElem = 5000
		}
		larger[k] = v
		v.Comment, v.Marks = false, false
		bare[k] = v
	}
	update := func(to map[state.SetName]state.Set) state.Delta {
		return state.Delta{Sets: diff.Delta[state.SetName, state.Set]{Update: updates(diff.Of(nil, to, state.SetName.Compare).Add)}}
	}
	b.does("updating headers", update(larger))
	for k := range rows.Entries {
		b.want.Entries[k] = state.Entry{} // there is no room for comments and marks
	}
	b.does("updating headers to those without comments and marks", update(bare))
	b.does("updating headers to those with comments and marks", update(larger))
	small := map[state.SetName]state.Set{}
	for k, v := range rows.Sets {
		if v.Type == state.HashIPPort {
			v.MaxElem = 2
			small[k] = v
		}
	}
	r := b.Sets.Apply(context.Background(), update(small).Sets)
	if len(r.Failed) != len(small) {
		t.Errorf("updating headers to those that hold fewer entries than there are: %v", r)
	}
	b.isAsWanted("a refused update")
}

func (c contract) setKeepsType(t *testing.T) {
	b := c.begin(t, setRows())
	good := state.SetName("KUBE-GOOD")
	d := diff.Delta[state.SetName, state.Set]{
		Update: []diff.Change[state.SetName, state.Set]{
			{Key: setName(state.IPv4, state.HashIP), New: state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 9}},
			{Key: setName(state.IPv6, state.HashIP), New: state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 9}},
		},
		Add: []diff.Row[state.SetName, state.Set]{
			{Key: setName(state.IPv4, state.HashIPPort), Value: state.Set{Type: state.BitmapPort}},
			{Key: good, Value: state.Set{Type: state.BitmapPort}},
		},
	}
	b.want.Sets[good] = state.Set{Type: state.BitmapPort}
	r := b.Sets.Apply(context.Background(), d)
	if len(r.Failed) != 3 || r.Failed[good] != nil {
		t.Errorf("failed: %v, want the three whose type or family can't change", r.Failed)
	}
	b.isAsWanted("sets were to change type or family")
}

// fullSet also shows that removed entries make room for those that are added.
func (c contract) fullSet(t *testing.T) {
	rows := state.New()
	for _, f := range families() {
		rows.Sets[setName(f, state.HashIP)] = state.Set{Type: state.HashIP, Family: f, MaxElem: 2}
	}
	b := c.begin(t, rows)
	row := func(f state.Family, n int) diff.Row[state.SetEntry, state.Entry] {
		return diff.Row[state.SetEntry, state.Entry]{Key: state.SetEntry{Set: setName(f, state.HashIP), Address: address(f, services, n)}}
	}
	for _, f := range families() {
		type d = diff.Delta[state.SetEntry, state.Entry]
		b.does("filling a set", state.Delta{Entries: d{Add: []diff.Row[state.SetEntry, state.Entry]{row(f, 1), row(f, 2)}}})
		r := b.Entries.Apply(context.Background(), d{Add: []diff.Row[state.SetEntry, state.Entry]{row(f, 2), row(f, 3)}})
		if r.Failed[row(f, 3).Key] == nil || len(r.Failed) != 1 || r.Drift != 1 {
			t.Errorf("adding to a full set: %+v, want one failure and one drift", r)
		}
		b.isAsWanted("adding to a full set")
		r = b.Entries.Apply(context.Background(), d{
			Remove: []diff.Row[state.SetEntry, state.Entry]{row(f, 1)},
			Add:    []diff.Row[state.SetEntry, state.Entry]{row(f, 3)},
		})
		if len(r.Failed) > 0 || r.Drift != 0 {
			t.Errorf("exchanging an entry of a full set: %+v", r)
		}
		delete(b.want.Entries, row(f, 1).Key)
		b.want.Entries[row(f, 3).Key] = state.Entry{}
		b.isAsWanted("exchanging an entry of a full set")
	}
}
