// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
)

// ErrInjected is the failure that FaultyWhile puts in.
var ErrInjected = errors.New("injected fault")

// FaultyWhile makes a share of all row changes and lists fail, chosen by random; share is called each time.
// Half of the failing rows are changed all the same, like a write whose answer was lost.
func FaultyWhile(t kernel.Tables, random *rand.Rand, share func() float64) kernel.Tables {
	f := &faults{random, share}
	return kernel.Tables{
		Sysctls: faulty(t.Sysctls, f), Sets: faulty(t.Sets, f), Entries: faulty(t.Entries, f),
		Chains: faulty(t.Chains, f), Jumps: faulty(t.Jumps, f), Links: faulty(t.Links, f),
		VirtualServers: faulty(t.VirtualServers, f), RealServers: faulty(t.RealServers, f),
		Addresses: faulty(t.Addresses, f),
	}
}

type faults struct {
	random *rand.Rand
	share  func() float64
}

func (f *faults) strikes() bool { return f.random.Float64() < f.share() }

type faultyStore[K, V comparable] struct {
	kernel.Store[K, V]
	*faults
}

func faulty[K, V comparable](s kernel.Store[K, V], f *faults) kernel.Store[K, V] {
	return faultyStore[K, V]{s, f}
}

func (s faultyStore[K, V]) List(ctx context.Context) (map[K]V, error) {
	if s.strikes() {
		return nil, ErrInjected
	}
	return s.Store.List(ctx)
}

func (s faultyStore[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	var struck []K
	var rest diff.Delta[K, V]
	passes := func(k K) bool {
		if !s.strikes() {
			return true
		}
		struck = append(struck, k)
		return s.random.IntN(2) == 0
	}
	for _, r := range d.Remove {
		if passes(r.Key) {
			rest.Remove = append(rest.Remove, r)
		}
	}
	for _, c := range d.Update {
		if passes(c.Key) {
			rest.Update = append(rest.Update, c)
		}
	}
	for _, r := range d.Add {
		if passes(r.Key) {
			rest.Add = append(rest.Add, r)
		}
	}
	result := s.Store.Apply(ctx, rest)
	for _, k := range struck {
		result.Fail(k, ErrInjected)
	}
	return result
}

// Operations counts what stores had to do.
type Operations struct {
	Lists int // tables listed
	Rows  int // rows added, updated or removed
}

// Metered counts the operations on all tables of t in o.
func Metered(t kernel.Tables, o *Operations) kernel.Tables {
	return kernel.Tables{
		Sysctls: metered(t.Sysctls, o), Sets: metered(t.Sets, o), Entries: metered(t.Entries, o),
		Chains: metered(t.Chains, o), Jumps: metered(t.Jumps, o), Links: metered(t.Links, o),
		VirtualServers: metered(t.VirtualServers, o), RealServers: metered(t.RealServers, o),
		Addresses: metered(t.Addresses, o),
	}
}

type meteredStore[K, V comparable] struct {
	kernel.Store[K, V]
	operations *Operations
}

func metered[K, V comparable](s kernel.Store[K, V], o *Operations) kernel.Store[K, V] {
	return meteredStore[K, V]{s, o}
}

func (s meteredStore[K, V]) List(ctx context.Context) (map[K]V, error) {
	s.operations.Lists++
	return s.Store.List(ctx)
}

func (s meteredStore[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	s.operations.Rows += d.Len()
	return s.Store.Apply(ctx, d)
}
