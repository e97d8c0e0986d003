// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conflict says that two owners claim one virtual server, or one port of the node.
type Conflict struct {
	Key           state.VirtualServerKey // at the unspecified address: the port, at all of the node's
	Winner, Loser Owner

	// WinnerRank and LoserRank are by what right they claim it.
	WinnerRank, LoserRank state.Rank

	// HealthCheck: what is claimed is the winner's NodePort, and where load balancers ask for the health of the loser.
	HealthCheck bool
}

// String says who has it, and why.
func (c Conflict) String() string {
	switch {
	case c.HealthCheck:
		return fmt.Sprintf("spec.healthCheckNodePort: %d is a NodePort of %v: load balancers that ask there are sent to that one's endpoints", c.Key.Address.Port(), c.Winner)
	case c.WinnerRank == c.LoserRank:
		return fmt.Sprintf("%v is served by %v, which is older or comes first by name", c.Key, c.Winner)
	}
	return fmt.Sprintf("%v is served by %v: that one's %v comes before this one's %v", c.Key, c.Winner, c.WinnerRank, c.LoserRank)
}

// conflictOf is the one that c's claim to k makes, if it makes one: with who has it, or with who had it.
func (d *Desired) conflictOf(k state.VirtualServerKey, c *claimant) []Conflict {
	all := d.VirtualServers.foremost(k)
	switch {
	case len(all) < 2:
		return nil
	case all[0] == c:
		return []Conflict{conflict(k, c, all[1])}
	}
	return []Conflict{conflict(k, all[0], c)}
}

func conflict(k state.VirtualServerKey, winner, loser *claimant) Conflict {
	return Conflict{
		Key: k, Winner: winner.owner, Loser: loser.owner,
		WinnerRank: winner.rankOf(k), LoserRank: loser.rankOf(k),
	}
}

// portConflicts are those that c's claim to e makes, if e is a NodePort or a port of health checks. IPVS takes packets
// before a program on the node can, so it is always the NodePort that has them.
func (d *Desired) portConflicts(e state.SetEntry, c *claimant) []Conflict {
	rival, is := e.Rival()
	if !is {
		return nil
	}
	k := state.VirtualServerKey{Protocol: state.TCP, Address: netip.AddrPortFrom(e.Set.Family().Unspecified(), e.Port)}
	var all []Conflict
	for _, other := range d.Entries.claims.claimants(rival) {
		switch {
		case other == c:
		case e.Set.HealthChecks():
			return append(all, Conflict{Key: k, Winner: other.owner, Loser: c.owner, HealthCheck: true})
		default:
			all = append(all, Conflict{Key: k, Winner: c.owner, Loser: other.owner, HealthCheck: true})
		}
	}
	return all
}

// By what right an owner claims a row: what the API server gave to one Service can't be taken by what another wrote
// into its own, however old that is.

// rankOf is by what right the virtual server k is claimed.
func (h *holdings) rankOf(k state.VirtualServerKey) state.Rank {
	i, found := find(h.ranks, k)
	if !found {
		return state.Allocated
	}
	return h.ranks[i].Value
}

func rankOfServer(c *claimant, k state.VirtualServerKey) state.Rank { return c.rankOf(k) }

// rankOfAddress is the same at all ports of an address.
func rankOfAddress(c *claimant, a state.Address) state.Rank {
	lowest := state.VirtualServerKey{Address: netip.AddrPortFrom(a.Addr, 0)}
	if i, _ := find(c.ranks, lowest); i < len(c.ranks) && c.ranks[i].Key.Address.Addr() == a.Addr {
		return c.ranks[i].Value
	}
	return state.Allocated
}

// rankOfEntry is that of the address or virtual server that the entry is about.
func rankOfEntry(c *claimant, e state.SetEntry) state.Rank {
	if k, ok := e.Server(); ok {
		return c.rankOf(k)
	}
	if e.Address.IsValid() && e.Port == 0 {
		return rankOfAddress(c, state.Address{Addr: e.Address})
	}
	return state.Allocated
}

// reranked reports whether what h and o both claim is of another rank in o. A claim is in the order of its rank, so
// that it has to be made anew.
func (h *holdings) reranked(o *holdings) bool {
	if slices.Equal(h.ranks, o.ranks) {
		return false
	}
	was, is := claimant{holdings: *h}, claimant{holdings: *o}
	return differs(servers(&was), servers(&is), state.VirtualServerKey.Compare, func(k state.VirtualServerKey) bool {
		return rankOfServer(&was, k) != rankOfServer(&is, k)
	}) || differs(addresses(&was), addresses(&is), state.Address.Compare, func(a state.Address) bool {
		return rankOfAddress(&was, a) != rankOfAddress(&is, a)
	}) || differs(entries(&was), entries(&is), state.SetEntry.Compare, func(e state.SetEntry) bool {
		return rankOfEntry(&was, e) != rankOfEntry(&is, e)
	})
}

// differs reports whether a key of both lists, which are sorted, does.
func differs[K, V comparable](a, b []diff.Row[K, V], compare func(a, b K) int, does func(K) bool) bool {
	for len(a) > 0 && len(b) > 0 {
		order := compare(a[0].Key, b[0].Key)
		if order == 0 && does(a[0].Key) {
			return true
		}
		if order <= 0 {
			a = a[1:]
		}
		if order >= 0 {
			b = b[1:]
		}
	}
	return false
}
