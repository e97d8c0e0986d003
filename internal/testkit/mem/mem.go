// SPDX-License-Identifier: Apache-2.0

// Package mem is a kernel in memory: the same Stores with the same rules about references and refusals, but without
// privileges and packets. The contract in package testkit keeps it true to the real kernel.
package mem

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Kernel holds the rows of all tables. Tests may change State directly, as an operator with ipvsadm would. It stores
// only the sysctls that have been written; the others exist, too, and are 0.
type Kernel struct {
	State       state.State
	Connections map[state.RealServerKey]state.Connections
}

// New returns a kernel without rows.
func New() *Kernel {
	return &Kernel{State: state.New(), Connections: map[state.RealServerKey]state.Connections{}}
}

// store is one table. The functions hold the kernel's rules; any of them may be nil.
type store[K, V comparable] struct {
	rows    map[K]V
	check   func(K, V) error // refuses a row that can't be, or whose reference is absent
	release func(K) error    // refuses to remove a row that is in use
	gone    func(map[K]bool) // takes along what can't be without removed rows
	changed func(K, V)       // a row is about to get a value
}

func (s store[K, V]) List(ctx context.Context) (map[K]V, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return maps.Clone(s.rows), nil
}

func (s store[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	var r kernel.Result[K]
	if err := ctx.Err(); err != nil {
		failAll(d, err, &r)
		return r
	}
	s.remove(d.Remove, &r)
	for _, c := range d.Update {
		s.set(c.Key, c.New, true, &r)
	}
	for _, row := range d.Add {
		s.set(row.Key, row.Value, false, &r)
	}
	return r
}

func failAll[K, V comparable](d diff.Delta[K, V], err error, r *kernel.Result[K]) {
	for _, row := range slices.Concat(d.Remove, d.Add) {
		r.Fail(row.Key, err)
	}
	for _, c := range d.Update {
		r.Fail(c.Key, err)
	}
}

func (s store[K, V]) set(k K, v V, expected bool, r *kernel.Result[K]) {
	if s.check != nil {
		if err := s.check(k, v); err != nil {
			r.Fail(k, err)
			return
		}
	}
	if _, there := s.rows[k]; there != expected {
		r.Drift++
	}
	if s.changed != nil {
		s.changed(k, v)
	}
	s.rows[k] = v
}

func (s store[K, V]) remove(rows []diff.Row[K, V], r *kernel.Result[K]) {
	removed := map[K]bool{}
	for _, row := range rows {
		if _, there := s.rows[row.Key]; !there {
			r.Drift++
			continue
		}
		if s.release != nil {
			if err := s.release(row.Key); err != nil {
				r.Fail(row.Key, err)
				continue
			}
		}
		delete(s.rows, row.Key)
		removed[row.Key] = true
	}
	if s.gone != nil && len(removed) > 0 {
		s.gone(removed)
	}
}

// Tables returns the stores over k.
func (k *Kernel) Tables() kernel.Tables {
	s := k.State
	return kernel.Tables{
		Sysctls: sysctls{s.Sysctls},
		Sets: store[state.SetName, state.Set]{
			rows: s.Sets, check: k.checkSet, release: k.setUnused, gone: k.setsGone, changed: k.setChanged,
		},
		Entries: entries{k},
		Chains:  chains{k},
		Jumps:   store[state.JumpKey, state.Jump]{rows: s.Jumps, check: k.checkJump},
		Links:   store[state.LinkName, state.Link]{rows: s.Links, check: checkLink, gone: k.linkGone},
		VirtualServers: store[state.VirtualServerKey, state.VirtualServer]{
			rows: s.VirtualServers, check: checkVirtualServer, gone: k.virtualServersGone,
		},
		RealServers: store[state.RealServerKey, state.RealServer]{
			rows: s.RealServers, check: k.checkRealServer, gone: k.realServersGone,
		},
		Addresses: store[state.Address, state.Binding]{rows: s.Addresses, check: k.checkAddress},
	}
}

func missing(row, reference any) error {
	return fmt.Errorf("%v needs %v: %w", row, reference, fs.ErrNotExist)
}

// Observer reads the connections of a Kernel.
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
