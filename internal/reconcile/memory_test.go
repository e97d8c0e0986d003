// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"runtime"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// settled is a Core over a kernel that takes all rows and keeps none, with so many Services and real servers of each in
// it.
func settled(services, endpoints int) *Core {
	c, now := NewCore(testOptions()), time.Unix(1_000_000, 0)
	c.Step(Upsert{Fragment: base()}, now)
	for n := range services {
		c.Step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, endpoints)}, now)
	}
	c.Step(Synced{}, now)
	taken(c, now)
	return c
}

// taken lets the kernel take all that is to be written.
func taken(c *Core, now time.Time) {
	for w := c.Ready(now); !w.Empty(); w = c.Ready(now) {
		var o Outcome
		if w.Audit {
			o.Observed = state.New()
		}
		c.Advance(w, o, now)
	}
}

// live is how many bytes of the heap are in use by what make returns.
func live[T any](make func() T) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc)
}

// footprint is what all that is wanted and believed takes of the heap for one more Service without endpoints, and for
// one more real server. Maps grow in leaps, so both come from sizes that are far apart.
func footprint() (service, realServer float64) {
	const few, many, endpoints = 1_000, 17_000, 20
	bare := (live(func() *Core { return settled(many, 0) }) - live(func() *Core { return settled(few, 0) })) / (many - few)
	full := (live(func() *Core { return settled(many, endpoints) }) - live(func() *Core { return settled(few, endpoints) })) / (many - few)
	return bare, (full - bare) / endpoints
}

func BenchmarkFootprint(b *testing.B) {
	var service, realServer float64
	for b.Loop() {
		service, realServer = footprint()
	}
	b.ReportMetric(service, "bytes/service")
	b.ReportMetric(realServer, "bytes/realserver")
	b.ReportMetric((service+10*realServer)/10, "bytes/realserver-of-10")
	b.ReportMetric(0, "ns/op") // of no meaning
}

// BenchmarkStart plans nothing and writes nothing: it is what all decisions of a start cost.
func BenchmarkStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		settled(10_000, 10)
	}
}
