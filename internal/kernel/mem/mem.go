// SPDX-License-Identifier: Apache-2.0

// Package mem is the kernel in memory: the same Stores, the same rules about
// what refers to what, no privileges. It passes the same contract as the real
// kernel (package kerneltest), which keeps it honest. It forwards no packets.
package mem

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Kernel holds the rows of all tables. Tests may change State behind the
// stores' back, as an operator with ipvsadm would.
type Kernel struct {
	State       state.State
	Connections map[state.RealServerKey]state.Connections
}

// New returns a kernel without rows.
func New() *Kernel {
	return &Kernel{State: state.New(), Connections: map[state.RealServerKey]state.Connections{}}
}

// store is one table. The functions hold the kernel's rules: ready refuses a
// row whose reference is absent, release refuses to remove one that is in use,
// gone takes along what cannot be without the row.
type store[K, V comparable] struct {
	rows    map[K]V
	ready   func(K, V) error
	release func(K) error
	gone    func(K)
}

func (s store[K, V]) List(context.Context) (map[K]V, error) { return maps.Clone(s.rows), nil }

func (s store[K, V]) Apply(_ context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	var r kernel.Result[K]
	for _, row := range d.Remove {
		s.remove(row.Key, &r)
	}
	for _, c := range d.Update {
		s.set(c.Key, c.New, true, &r)
	}
	for _, row := range d.Add {
		s.set(row.Key, row.Value, false, &r)
	}
	return r
}

func (s store[K, V]) set(k K, v V, expected bool, r *kernel.Result[K]) {
	if s.ready != nil {
		if err := s.ready(k, v); err != nil {
			r.Fail(k, err)
			return
		}
	}
	if _, there := s.rows[k]; there != expected {
		r.Drift++
	}
	s.rows[k] = v
}

func (s store[K, V]) remove(k K, r *kernel.Result[K]) {
	if _, there := s.rows[k]; !there {
		r.Drift++
		return
	}
	if s.release != nil {
		if err := s.release(k); err != nil {
			r.Fail(k, err)
			return
		}
	}
	delete(s.rows, k)
	if s.gone != nil {
		s.gone(k)
	}
}

// Tables are the stores over k.
func (k *Kernel) Tables() kernel.Tables {
	s := k.State
	return kernel.Tables{
		Sysctls: store[state.SysctlName, string]{rows: s.Sysctls},
		Sets:    store[state.SetName, state.Set]{rows: s.Sets, release: k.setUnused, gone: k.setGone},
		Entries: store[state.SetEntry, state.Entry]{rows: s.Entries, ready: k.entryReady},
		Chains:  store[state.ChainKey, state.Chain]{rows: s.Chains, ready: k.chainReady, release: k.chainUnused},
		Jumps:   store[state.JumpKey, state.Jump]{rows: s.Jumps, ready: k.jumpReady},
		Links:   store[state.LinkName, state.Link]{rows: s.Links, gone: k.linkGone},
		VirtualServers: store[state.VirtualServerKey, state.VirtualServer]{
			rows: s.VirtualServers, gone: k.virtualServerGone,
		},
		RealServers: store[state.RealServerKey, state.RealServer]{
			rows: s.RealServers, ready: k.realServerReady, gone: func(r state.RealServerKey) { delete(k.Connections, r) },
		},
		Addresses: store[state.Address, state.Binding]{rows: s.Addresses, ready: k.addressReady},
	}
}

func missing(row, reference any) error {
	return fmt.Errorf("%v needs %v: %w", row, reference, fs.ErrNotExist)
}

func (k *Kernel) entryReady(e state.SetEntry, _ state.Entry) error {
	if _, ok := k.State.Sets[e.Set]; !ok {
		return missing(e, e.Set)
	}
	return nil
}

func (k *Kernel) setUnused(n state.SetName) error {
	for key, chain := range k.State.Chains {
		if strings.Contains(chain.Rules+" ", "--match-set "+string(n)+" ") {
			return fmt.Errorf("set %v is in use by chain %v", n, key)
		}
	}
	return nil
}

func (k *Kernel) setGone(n state.SetName) {
	maps.DeleteFunc(k.State.Entries, func(e state.SetEntry, _ state.Entry) bool { return e.Set == n })
}

// chainReady checks the sets that the rules match on. Chains that jump to each
// other may come in one delta, so their targets are not checked.
func (k *Kernel) chainReady(key state.ChainKey, chain state.Chain) error {
	words := strings.Fields(chain.Rules)
	for i, word := range words[:max(0, len(words)-1)] {
		if word != "--match-set" {
			continue
		}
		if _, ok := k.State.Sets[state.SetName(words[i+1])]; !ok {
			return missing(key, words[i+1])
		}
	}
	return nil
}

func (k *Kernel) chainUnused(key state.ChainKey) error {
	for j := range k.State.Jumps {
		if (state.ChainKey{Family: j.Family, Table: j.Table, Name: j.To}) == key {
			return fmt.Errorf("chain %v is in use by jump %v", key, j)
		}
	}
	return nil
}

func (k *Kernel) jumpReady(j state.JumpKey, _ state.Jump) error {
	target := state.ChainKey{Family: j.Family, Table: j.Table, Name: j.To}
	if _, ok := k.State.Chains[target]; !ok {
		return missing(j, target)
	}
	return nil
}

func (k *Kernel) addressReady(a state.Address, _ state.Binding) error {
	if _, ok := k.State.Links[state.DummyLink]; !ok {
		return missing(a, state.DummyLink)
	}
	return nil
}

func (k *Kernel) linkGone(n state.LinkName) {
	if n == state.DummyLink {
		clear(k.State.Addresses)
	}
}

func (k *Kernel) realServerReady(r state.RealServerKey, _ state.RealServer) error {
	if _, ok := k.State.VirtualServers[r.Server]; !ok {
		return missing(r, r.Server)
	}
	return nil
}

func (k *Kernel) virtualServerGone(v state.VirtualServerKey) {
	maps.DeleteFunc(k.State.RealServers, func(r state.RealServerKey, _ state.RealServer) bool { return r.Server == v })
	maps.DeleteFunc(k.Connections, func(r state.RealServerKey, _ state.Connections) bool { return r.Server == v })
}

// Observer looks at the connections of a Kernel.
type Observer struct{ Kernel *Kernel }

// Connections returns those of the real servers of the given virtual servers.
func (o Observer) Connections(_ context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	asked := map[state.RealServerKey]state.Connections{}
	for r := range o.Kernel.State.RealServers {
		if slices.Contains(servers, r.Server) {
			asked[r] = o.Kernel.Connections[r]
		}
	}
	return asked, nil
}
