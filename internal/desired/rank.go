// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

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
