// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// holdings are the rows that one owner claims, sorted by key. No other place keeps a desired row.
type holdings struct {
	entries   []diff.Row[state.SetEntry, state.Entry]
	servers   []diff.Row[state.VirtualServerKey, state.VirtualServer]
	reals     []state.Reals // of each of the servers
	addresses []diff.Row[state.Address, state.Binding]
	ranks     []diff.Row[state.VirtualServerKey, state.Rank] // of the servers that are not Allocated
	leading   []diff.Row[state.SetEntry, state.Entry]        // those of the entries that lead to a virtual server: few Services have any
	shared    *state.Fragment                                // rows of the other tables; nil for a Service
}

func holdingsOf(f state.Fragment) holdings {
	h := holdings{
		entries:   trim(f.Entries),
		servers:   trim(f.VirtualServers),
		reals:     state.RealsOf(f.VirtualServers, f.RealServers),
		addresses: trim(f.Addresses),
		ranks:     trim(f.Ranks),
		shared:    sharedOf(f),
	}
	for _, r := range h.entries {
		if _, leads := r.Key.LeadsTo(r.Value); leads {
			h.leading = append(h.leading, r)
		}
	}
	return h
}

func sharedOf(f state.Fragment) *state.Fragment {
	if len(f.Sysctls)+len(f.Sets)+len(f.Chains)+len(f.Jumps)+len(f.Links) == 0 {
		return nil
	}
	return &state.Fragment{Sysctls: f.Sysctls, Sets: f.Sets, Chains: f.Chains, Jumps: f.Jumps, Links: f.Links}
}

// shared are the rows of a shared table that c claims.
func shared[K, V comparable](t state.Table) func(c *claimant) []diff.Row[K, V] {
	return func(c *claimant) []diff.Row[K, V] {
		if c.shared == nil {
			return nil
		}
		return *state.Part[[]diff.Row[K, V]](t, c.shared)
	}
}

// trim is rows without room for more.
func trim[T any](rows []T) []T {
	if len(rows) == cap(rows) {
		return rows
	}
	return slices.Clone(rows[:len(rows):len(rows)])
}

// realsOf are the real servers for one virtual server.
func (h *holdings) realsOf(k state.VirtualServerKey) state.Reals {
	i, found := find(h.servers, k)
	if !found {
		return nil
	}
	return h.reals[i]
}

func find[V comparable](rows []diff.Row[state.VirtualServerKey, V], k state.VirtualServerKey) (int, bool) {
	return slices.BinarySearchFunc(rows, k, func(r diff.Row[state.VirtualServerKey, V], k state.VirtualServerKey) int {
		return r.Key.Compare(k)
	})
}

func entries(c *claimant) []diff.Row[state.SetEntry, state.Entry]    { return c.entries }
func addresses(c *claimant) []diff.Row[state.Address, state.Binding] { return c.addresses }

func servers(c *claimant) []diff.Row[state.VirtualServerKey, state.VirtualServer] { return c.servers }
