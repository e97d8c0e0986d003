// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type (
	rowsTable = kernel.Store[state.RealServerKey, state.RealServer]
	rowsDelta = diff.Delta[state.RealServerKey, state.RealServer]
	rowsList  = []diff.Row[state.RealServerKey, state.RealServer]
)

// recorder remembers what it was to add.
type recorder struct {
	rowsTable
	added rowsList
}

func (r *recorder) Apply(_ context.Context, d rowsDelta) (none kernel.Result[state.RealServerKey]) {
	r.added = d.Add
	return none
}

func endpoints(n int) rowsList {
	var rows rowsList
	for _, server := range []string{"TCP 10.96.0.1:80", "TCP 10.96.0.2:80"} {
		for i := range n {
			k, err := state.ParseRealServerKey(fmt.Sprintf("%s -> 10.244.0.%d:8080", server, i))
			if err != nil {
				panic(err)
			}
			rows = append(rows, diff.Row[state.RealServerKey, state.RealServer]{Key: k, Value: state.RealServer{Weight: 1}})
		}
	}
	return rows
}

func TestNodesDoNotAllStartAtTheSameEndpoint(t *testing.T) {
	const nodes, n = 200, 5
	rows := endpoints(n)
	last := map[netip.AddrPort]int{}
	for node := range nodes {
		r := &recorder{}
		kernel.Spread(r, fmt.Sprint("node-", node)).Apply(context.Background(), rowsDelta{Add: rows})
		if !slices.IsSortedFunc(r.added, func(a, b diff.Row[state.RealServerKey, state.RealServer]) int {
			return a.Key.Server.Compare(b.Key.Server)
		}) {
			t.Fatal("the virtual servers are mixed")
		}
		if r.added[n-1].Key.Address != r.added[2*n-1].Key.Address {
			t.Error("two virtual servers of one node start with different endpoints")
		}
		last[r.added[n-1].Key.Address]++
		sorted := slices.SortedFunc(slices.Values(r.added), func(a, b diff.Row[state.RealServerKey, state.RealServer]) int { return a.Key.Compare(b.Key) })
		if !slices.Equal(sorted, rows) {
			t.Fatal("rows were lost or made up")
		}
	}
	for a, times := range last {
		if times < nodes/n/2 || times > nodes/n*2 {
			t.Errorf("%d of %d nodes start with %v", times, nodes, a)
		}
	}
	if len(last) != n {
		t.Errorf("%d of %d endpoints are anybody's first", len(last), n)
	}
}

func TestANodeStartsTheSameWayEveryTime(t *testing.T) {
	var orders []rowsList
	for range 2 {
		r := &recorder{}
		kernel.Spread(r, "node-1").Apply(context.Background(), rowsDelta{Add: endpoints(9)})
		orders = append(orders, r.added)
	}
	if !slices.Equal(orders[0], orders[1]) {
		t.Error("two starts of one node differ")
	}
}
