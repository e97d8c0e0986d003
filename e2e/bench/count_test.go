// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// What a start may take beyond the floor, however large the cluster is: looks at what is there. Rows are written some
// thousand at a time, so that a small change need not wait for all: that ends a batch of each table early, and adds no
// request.
const (
	beyond  = 22
	aChunk  = 4 // tables that grow with the cluster
	inChunk = 4096
)

func TestAStartAsksTheKernelForLittleMoreThanTheFloor(t *testing.T) {
	for _, s := range []large.Size{large.IPv4(10, endpoints), large.IPv4(2000, endpoints), large.DualStack(2000, endpoints)} {
		t.Run(s.String(), func(t *testing.T) {
			objects := s.Objects()
			want := rows(objects)
			ours := costOfAStart(t, objects, want)
			_, least := sendFloor(t, want)
			t.Logf("ours %+v, floor %+v", ours, least)
			if ours.Lists != 9 || ours.Rows != state.Diff(state.New(), want).Len() {
				t.Errorf("%d lists and %d rows written, want each table listed and each row written once", ours.Lists, ours.Rows)
			}
			calls := least.Calls + beyond + aChunk*uint64(ours.Rows/inChunk)
			if ours.Requests > least.Requests+beyond || ours.Calls > calls {
				t.Errorf("%d requests in %d calls, the floor takes %d in %d", ours.Requests, ours.Calls, least.Requests, least.Calls)
			}
			if least.Calls > least.Requests/300+10 {
				t.Errorf("the floor takes %d calls for %d requests", least.Calls, least.Requests)
			}
			if look, write := 2, 2; ours.Forks != look+write {
				t.Errorf("%d tools run, want one look and one write for each of two families", ours.Forks)
			}
		})
	}
}

func costOfAStart(t *testing.T, objects []plan.Objects, want state.State) cost {
	t.Helper()
	testkit.Namespace(t)
	h := open(t)
	before := h.cost()
	// Which variant of the tools holds the node's rules is seen by asking both.
	if asked, variants := 1, 2; before.Forks != 2*(asked+variants) {
		t.Errorf("opening took %d forks, want one for the tools' version and one for each of their two variants, for each of two families", before.Forks)
	}
	h.start(t, objects)
	c := h.cost().since(before)
	h.close(t)
	mustHold(t, want)
	return c
}

func TestOneEndpointsChangeCostsTheSameWith10AndWith2000Services(t *testing.T) {
	var costs []cost
	for _, services := range []int{10, 2000} {
		testkit.Namespace(t)
		costs = append(costs, costOfAChange(t, large.IPv4(services, endpoints)))
	}
	few, many := costs[0], costs[1]
	t.Logf("%+v", few)
	if few != many {
		t.Errorf("with 10 Services %+v, with 2,000 %+v", few, many)
	}
	if many.Lists != 0 || many.Forks != 0 || many.Rows != 3 || many.Requests > 4 || many.Calls > 4 {
		t.Errorf("%+v, want no list and no fork for 3 rows (one more, one with weight 0, one less) and a look at its connections: four calls, as the one comes before the other goes", many)
	}
}

// costOfAChange is that of an endpoint which takes another one's place, from the object until the old one is gone.
func costOfAChange(t *testing.T, s large.Size) cost {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	h := open(t)
	defer h.close(t)
	var before, after cost
	more := make(chan plan.Objects, 1)
	missing := s.Services
	h.tables.Addresses = watched[state.Address, state.Binding]{h.tables.Addresses, func(d diff.Delta[state.Address, state.Binding]) {
		if missing -= len(d.Add); missing == 0 {
			before = h.cost()
			more <- s.Service(5, 1)
		}
	}}
	h.tables.RealServers = watched[state.RealServerKey, state.RealServer]{h.tables.RealServers, func(d diff.Delta[state.RealServerKey, state.RealServer]) {
		if len(d.Remove) > 0 {
			after = h.cost()
			stop()
		}
	}}
	h.run(ctx, t, memory{objects: s.Objects(), more: more})
	return after.since(before)
}
