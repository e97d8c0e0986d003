// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Spread is a table of real servers that adds them in another order on every node. IPVS' schedulers begin with the one
// added last; without this, the first connection of every node would go to the same endpoint of a Service.
func Spread(s Store[state.RealServerKey, state.RealServer], node string) Store[state.RealServerKey, state.RealServer] {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node)) // a hash never fails
	return spread{s, mixed(h.Sum64())}
}

type spread struct {
	Store[state.RealServerKey, state.RealServer]
	node uint64 // a hash of its name
}

func (s spread) Apply(ctx context.Context, d diff.Delta[state.RealServerKey, state.RealServer]) Result[state.RealServerKey] {
	d.Add = s.order(d.Add)
	return s.Store.Apply(ctx, d)
}

// ListPacked is the table's.
func (s spread) ListPacked(ctx context.Context) (state.Packed, error) {
	return listPacked(ctx, s.Store)
}

// placed is a row and its place among those of its virtual server.
type placed struct {
	place uint64
	row   int
}

// order keeps the rows of a virtual server together: they come sorted.
func (s spread) order(rows []diff.Row[state.RealServerKey, state.RealServer]) []diff.Row[state.RealServerKey, state.RealServer] {
	ordered := make([]diff.Row[state.RealServerKey, state.RealServer], 0, len(rows))
	var places []placed
	for from := 0; from < len(rows); from = len(ordered) {
		places = places[:0]
		for i := from; i < len(rows) && rows[i].Key.Server == rows[from].Key.Server; i++ {
			places = append(places, placed{s.place(rows[i].Key), i})
		}
		slices.SortFunc(places, func(a, b placed) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.row, b.row)) })
		for _, p := range places {
			ordered = append(ordered, rows[p.row])
		}
	}
	return ordered
}

// place is a hash of the node and the endpoint. The same endpoints come in the same order in all virtual servers of a
// node.
func (s spread) place(k state.RealServerKey) uint64 {
	a := k.Address.Addr().As16()
	h := mixed(s.node ^ binary.BigEndian.Uint64(a[:8]))
	h = mixed(h ^ binary.BigEndian.Uint64(a[8:]))
	return mixed(h ^ uint64(k.Address.Port()))
}

// mixed lets every bit of h count for every bit of the result (MurmurHash3's finalizer).
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
