// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"runtime"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// spent is what one endpoint's change costs.
type spent struct {
	testkit.Operations
	allocations, bytes float64
}

// costOfAChange is of a change that goes to and fro, so that any number of them finds the same: one endpoint drains,
// another gets its weight back.
func costOfAChange(t *testing.T, services int) spent {
	t.Helper()
	b := syncedBench(t, services)
	first := 0
	change := func() {
		first = 1 - first
		b.step(Upsert{Owner: owner(5), Fragment: service(server(5, state.TCP), first, 3)})
		b.settle(t)
	}
	change() // makes the fourth endpoint
	change()
	b.ops = testkit.Operations{}
	change()
	operations := b.ops

	const runs = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	allocations := testing.AllocsPerRun(runs, change)
	runtime.ReadMemStats(&after)
	return spent{operations, allocations, float64(after.TotalAlloc-before.TotalAlloc) / runs}
}

func TestOneEndpointsChangeAllocatesTheSameWith10AndWith10000Services(t *testing.T) {
	few, many := costOfAChange(t, 10), costOfAChange(t, 10_000)
	if want := (testkit.Operations{Rows: 2}); few.Operations != want || many.Operations != want {
		t.Errorf("operations %+v and %+v, want %+v", few.Operations, many.Operations, want)
	}
	// A map is bucketed by a random hash: it may grow here and there.
	if many.allocations > few.allocations+5 || many.bytes > few.bytes*1.25+256 {
		t.Errorf("with 10 Services %.0f allocations of %.0f bytes, with 10,000 %.0f of %.0f",
			few.allocations, few.bytes, many.allocations, many.bytes)
	}
	if many.allocations > 100 || many.bytes > 16<<10 {
		t.Errorf("%.0f allocations of %.0f bytes for two rows", many.allocations, many.bytes)
	}
	t.Logf("with 10 Services %.0f allocations of %.0f bytes, with 10,000 %.0f of %.0f",
		few.allocations, few.bytes, many.allocations, many.bytes)
}
