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
	few       *few                                           // nil for a Service
}

// few are the rows of tables that do not grow with the cluster.
type few struct {
	sysctls []diff.Row[state.SysctlName, string]
	sets    []diff.Row[state.SetName, state.Set]
	chains  []diff.Row[state.ChainKey, state.Chain]
	jumps   []diff.Row[state.JumpKey, state.Jump]
	links   []diff.Row[state.LinkName, state.Link]
}

func holdingsOf(f state.Fragment) holdings {
	h := holdings{
		entries:   trim(f.Entries),
		servers:   trim(f.VirtualServers),
		reals:     state.RealsOf(f.VirtualServers, f.RealServers),
		addresses: trim(f.Addresses),
		ranks:     trim(f.Ranks),
	}
	for _, r := range h.entries {
		if _, leads := r.Key.LeadsTo(r.Value); leads {
			h.leading = append(h.leading, r)
		}
	}
	if len(f.Sysctls)+len(f.Sets)+len(f.Chains)+len(f.Jumps)+len(f.Links) > 0 {
		h.few = &few{f.Sysctls, f.Sets, f.Chains, f.Jumps, f.Links}
	}
	return h
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

func sysctls(c *claimant) []diff.Row[state.SysctlName, string]   { return c.rare().sysctls }
func sets(c *claimant) []diff.Row[state.SetName, state.Set]      { return c.rare().sets }
func chains(c *claimant) []diff.Row[state.ChainKey, state.Chain] { return c.rare().chains }
func jumps(c *claimant) []diff.Row[state.JumpKey, state.Jump]    { return c.rare().jumps }
func links(c *claimant) []diff.Row[state.LinkName, state.Link]   { return c.rare().links }

func (h *holdings) rare() few {
	if h.few == nil {
		return few{}
	}
	return *h.few
}
