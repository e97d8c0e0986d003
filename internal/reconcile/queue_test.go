// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// waits is a group of one owner's rows.
func waits(of, rows int, servers ...int) group {
	g := group{owners: []desired.Owner{owner(of)}, rows: rows}
	for _, n := range servers {
		g.servers = append(g.servers, server(n, state.TCP))
	}
	return g
}

func (b *queue) drain(next func() *group) (rows []int) {
	for g := next(); g != nil; g = next() {
		rows = append(rows, g.rows)
		b.remove(g)
	}
	return rows
}

func TestGroupsComeBySizeOrByAge(t *testing.T) {
	var b queue
	fill := func() {
		for i, rows := range []int{100, 3, 1000, 2, 1} {
			b.put(waits(i, rows, i))
		}
	}
	fill()
	if got, want := b.drain(b.smallest), []int{1, 3, 2, 100, 1000}; !slices.Equal(got, want) {
		t.Errorf("by size %v, want %v: those of about the same size by age", got, want)
	}
	fill()
	if got, want := b.drain(b.oldest), []int{100, 3, 1000, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("by age %v, want %v", got, want)
	}
	if !b.empty() || b.byOwner.len()+b.byServer.len() != 0 {
		t.Errorf("%d groups left", b.size)
	}
}

func TestAGroupThatGrowsChangesItsPlaceBySizeButNotByAge(t *testing.T) {
	var b queue
	b.put(waits(1, 1, 1))
	b.put(waits(2, 5, 2))
	b.put(waits(1, 50, 1))
	if g := b.smallest(); g.rows != 5 {
		t.Errorf("the smallest has %d rows, want 5", g.rows)
	}
	if g := b.oldest(); g.rows != 51 || len(g.servers) != 1 {
		t.Errorf("the oldest has %d rows and %d virtual servers, want 51 and 1", g.rows, len(g.servers))
	}
}

func TestWhatDependsOnEachOtherWaitsTogether(t *testing.T) {
	address := func(n int) group {
		return group{addresses: []state.Address{{Addr: server(n, state.TCP).Address.Addr()}}, rows: 1}
	}
	for name, groups := range map[string][]group{
		"one Service":                       {waits(1, 1, 1), waits(1, 1, 2)},
		"one virtual server":                {waits(1, 1, 1), waits(2, 1, 1)},
		"an address and its virtual server": {address(1), waits(2, 1, 1)},
		"two, by a third":                   {waits(1, 1, 1), waits(2, 1, 2), waits(3, 1, 1, 2)},
	} {
		var b queue
		for _, g := range groups {
			b.put(g)
		}
		if b.size != 1 || b.oldest().rows != len(groups) {
			t.Errorf("%s: %d groups", name, b.size)
		}
	}
	var b queue
	b.put(waits(1, 1, 1))
	b.put(waits(2, 1, 2))
	if b.size != 2 {
		t.Errorf("two Services are %d groups", b.size)
	}
}

func TestAServiceThatFlapsWhileItWaitsTakesNoMoreRoom(t *testing.T) {
	var b queue
	for range 10_000 {
		g := waits(1, 1, 1)
		g.entries = []state.SetEntry{entryOf(g.servers[0])}
		b.put(g)
	}
	if g := b.oldest(); len(g.entries) > 100 || len(g.servers) != 1 || len(b.ages) != 1 {
		t.Errorf("%d entries, %d virtual servers and %d groups", len(g.entries), len(g.servers), len(b.ages))
	}
}

func TestDatesAreInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var d dates[int]
	var want, got []int
	for range 1000 {
		n := random.IntN(500)
		want = append(want, n)
		heap.Push(&d, date[int]{time.Unix(int64(n), 0), n})
		if random.IntN(3) == 0 {
			slices.Sort(want)
			if first := d[0].key; first != want[0] {
				t.Fatalf("%d is first, want %d", first, want[0])
			}
			heap.Pop(&d)
			want = want[1:]
		}
	}
	for len(d) > 0 {
		got = append(got, d[0].key)
		heap.Pop(&d)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAShrinkingMapIsAMapThatGivesItsRoomBack(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var e shrinkingMap[int, int]
	m := map[int]int{}
	for step := range 100_000 {
		k, share := random.IntN(5000), 3
		if step/20_000%2 == 1 {
			share = 0
		}
		if random.IntN(4) < share {
			e.put(k, step)
			m[k] = step
		} else {
			e.drop(k)
			delete(m, k)
		}
		if v, there := e.get(k); v != m[k] || there != e.has(k) || e.len() != len(m) {
			t.Fatalf("step %d: %d is %d %v, want %d; %d rows, want %d", step, k, v, there, m[k], e.len(), len(m))
		}
	}
	for k := range m {
		e.drop(k)
	}
	if e.most > worthwhile {
		t.Errorf("empty, with room for %d", e.most)
	}
}
