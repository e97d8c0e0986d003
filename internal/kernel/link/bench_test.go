// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// BenchmarkAddresses binds many Service addresses by either means, adds one more and lists them, binds them by the
// other means, and takes them away. Only the first is the benchmark's time per operation; with -benchtime=1x everything
// is done once.
func BenchmarkAddresses(b *testing.B) {
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		for _, means := range []state.Means{state.Assigned, state.Routed} {
			for _, n := range []int{5000, 10000, 20000, 40000} {
				b.Run(fmt.Sprintf("%v/%v/%d", f, means, n), func(b *testing.B) { benchmarkBinding(b, f, means, n) })
			}
		}
	}
}

func benchmarkBinding(b *testing.B, f state.Family, means state.Means, n int) {
	testkit.Namespace(b)
	c, err := Open()
	if err != nil {
		b.Fatal(err)
	}
	testkit.CloseAtEnd(b, c)
	dummy := diff.Row[state.LinkName, state.Link]{Key: state.DummyLink, Value: state.Link{Kind: dummyKind}}
	testkit.Apply(b, c.Links(), diff.Delta[state.LinkName, state.Link]{Add: []diff.Row[state.LinkName, state.Link]{dummy}}, 0)
	a := netip.MustParseAddr("10.96.0.1")
	if f == state.IPv6 {
		a = netip.MustParseAddr("fd00:96::1")
	}
	var all, other, gone, one addressDelta
	for range n + 1 {
		k := state.Address{Addr: a}
		now, then := state.Binding{Means: means}, state.Binding{Means: state.Routed - means}
		all.Add = append(all.Add, diff.Row[state.Address, state.Binding]{Key: k, Value: now})
		other.Update = append(other.Update, diff.Change[state.Address, state.Binding]{Key: k, Old: now, New: then})
		gone.Remove = append(gone.Remove, diff.Row[state.Address, state.Binding]{Key: k, Value: then})
		a = a.Next()
	}
	one.Add, all.Add = all.Add[n:], all.Add[:n]
	var more, list, change, remove stopwatch
	for b.Loop() {
		testkit.Apply(b, c.Addresses(), all, 0)
		b.StopTimer()
		more.time(func() { testkit.Apply(b, c.Addresses(), one, 0) })
		list.time(func() {
			if rows, err := c.Addresses().List(b.Context()); err != nil || len(rows) != n+1 {
				b.Fatalf("%d rows, %v, want %d", len(rows), err, n+1)
			}
		})
		change.time(func() { testkit.Apply(b, c.Addresses(), other, 0) })
		remove.time(func() { testkit.Apply(b, c.Addresses(), gone, 0) })
		b.StartTimer()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(more.mean(), "one-more-ms")
	b.ReportMetric(list.mean(), "list-ms")
	b.ReportMetric(change.mean(), "otherwise-ms")
	b.ReportMetric(remove.mean(), "then-remove-ms")
}

// stopwatch adds up times.
type stopwatch struct {
	sum  time.Duration
	laps int
}

func (s *stopwatch) time(f func()) {
	started := time.Now()
	f()
	s.sum += time.Since(started)
	s.laps++
}

// mean is in milliseconds.
func (s *stopwatch) mean() float64 { return 1000 * s.sum.Seconds() / float64(max(s.laps, 1)) }
