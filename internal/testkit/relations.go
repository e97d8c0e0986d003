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

func (w firewall) setRows() state.State {
	s := state.New()
	s.Sets = w.setTable().rows
	s.Entries = with(w.entriesOf(state.IPv4), w.entriesOf(state.IPv6))
	return s
}

func (c contract) setTakesEntries(t *testing.T) {
	b := c.begin(t, c.setRows())
	for _, n := range []state.SetName{c.set(state.IPv4, state.HashIPPort), c.set(state.IPv6, state.HashIPPortNet), c.ports(state.IPv4)} {
		maps.DeleteFunc(b.want.Entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set == n })
		row := []diff.Row[state.SetName, state.Set]{{Key: n, Value: c.setTable().rows[n]}}
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
func (w firewall) ruleRows() state.State {
	s := state.New()
	s.Sets = w.hashSets()
	s.Chains = w.chainTable().rows
	s.Jumps = w.jumpTable().rows
	return s
}

func (c contract) setInUse(t *testing.T) {
	rows := c.ruleRows()
	used := maps.Clone(rows.Sets)
	unused := c.named("KUBE-UNUSED")
	rows.Sets[unused] = c.header(state.IPv4, state.BitmapPort)
	b := c.begin(t, rows)
	delete(b.want.Sets, unused)
	b.refuses("removing sets in use", state.Delta{Sets: diff.Of(rows.Sets, nil, state.SetName.Compare)}, len(used))
	b.does("removing jumps, chains and sets", state.Diff(c.ruleRows(), state.New()))
}

func (c contract) chainInUse(t *testing.T) {
	b := c.begin(t, c.ruleRows())
	remove := state.Delta{Chains: state.Diff(c.ruleRows(), state.New()).Chains}
	b.refuses("removing chains in use by jumps", remove, remove.Len())
	only := map[state.ChainKey]state.Chain{}
	for k, v := range c.chainTable().rows {
		if k.Name == "KUBE-B" {
			only[k] = v
		}
	}
	d := state.Delta{Chains: diff.Of(only, nil, state.ChainKey.Compare)}
	b.refuses("removing chains in use by chains", d, len(only))
	b.does("removing the jumps", state.Delta{Jumps: diff.Of(c.jumpTable().rows, nil, state.JumpKey.Compare)})
	b.refuses("removing chains in use by chains", d, len(only))
	b.does("removing the chains", remove)
}

// chainsTogether: a chain may go to one that the same delta adds or removes. A chain that can't be made also keeps out
// the chains that need it.
func (c contract) chainsTogether(t *testing.T) {
	b := c.begin(t, state.New())
	chain := func(f state.Family, name string) state.ChainKey {
		return state.ChainKey{Family: f, Table: c.rules(state.NAT), Name: name}
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

		rows[chain(f, "KUBE-D")] = state.ChainOf("-m set --match-set " + string(c.named("KUBE-NOWHERE")) + " dst -j RETURN")
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
