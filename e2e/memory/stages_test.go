// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// heap returns the live bytes.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what pools release
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// afterSource returns the live bytes once a source knows a cluster, and its user keeps nothing of it.
func afterSource(t testing.TB, s size) float64 {
	t.Helper()
	_, url := serve(t, s, true)
	sink := discard{make(chan struct{})}
	from := source(t, url)
	before := heap()
	stop := running(t, func(ctx context.Context) { _ = from.Run(ctx, sink) })
	defer stop()
	receive(t, sink.all, "all objects")
	profile(t, "source", s)
	return heap() - before
}

// afterStart returns the live bytes once a whole daemon has written a cluster.
func afterStart(t testing.TB, s size) float64 {
	t.Helper()
	_, url := serve(t, s, true)
	d, w := newDaemon(source(t, url))
	before := heap()
	stop := running(t, func(ctx context.Context) { _ = d.Run(ctx) })
	defer stop()
	w.await(t, s)
	profile(t, "daemon", s)
	return heap() - before
}

// await waits until the rows of a cluster are written.
func (w settled) await(t testing.TB, s size) {
	t.Helper()
	for receive(t, w.balance, "all rows").Rows[state.RealServers].Present < s.all() {
	}
}

// profile writes a heap profile to a folder, if HEAP names one.
func profile(t testing.TB, stage string, s size) {
	t.Helper()
	folder := os.Getenv("HEAP")
	if folder == "" {
		return
	}
	runtime.GC()
	f, err := os.Create(fmt.Sprintf("%s/%s-%v.pprof", folder, stage, s))
	if err == nil {
		err = pprof.WriteHeapProfile(f)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Three sizes are enough to compute what a Service and an endpoint add; the constant part drops out. Four times as many
// rows is the same phase in the life of a map that doubles.
func TestWhatAServiceAndAnEndpointTakeIsPublished(t *testing.T) {
	few, more, wide := size{1_000, 8}, size{4_000, 8}, size{1_000, 32}
	for _, stage := range []struct {
		name                  string
		take                  func(testing.TB, size) float64
		ofService, ofEndpoint float64 // at most, in bytes
	}{
		{"objects", afterSource, 900, 16},
		{"in all", afterStart, 2_400, 90},
	} {
		least := stage.take(t, few)
		endpoint := (stage.take(t, wide) - least) / float64(wide.all()-few.all())
		service := (stage.take(t, more)-least)/float64(more.services-few.services) - float64(few.endpoints)*endpoint
		check(t,
			figure{"a Service, " + stage.name, service, stage.ofService},
			figure{"an endpoint, " + stage.name, endpoint, stage.ofEndpoint},
		)
	}
}

// changes is how many changes are measured together.
const changes = 200

func TestOneEndpointsChangeAllocatesTheSameWith10AndWith10000Services(t *testing.T) {
	few, many := bytesOfAChange(t, size{10, 10}), bytesOfAChange(t, size{10_000, 10})
	t.Logf("with 10 Services %.0f bytes, with 10,000 %.0f", few, many)
	if many > few*1.2+2_000 {
		t.Errorf("with 10 Services %.0f bytes, with 10,000 %.0f", few, many)
	}
	check(t, figure{"garbage of one endpoint's change", many, 200_000})
}

// bytesOfAChange returns the bytes that are allocated from the API server's message until the kernel is written,
// including the small share of the API server.
func bytesOfAChange(t *testing.T, s size) float64 {
	t.Helper()
	api, url := serve(t, s, true)
	d, w := newDaemon(source(t, url))
	stop := running(t, func(ctx context.Context) { _ = d.Run(ctx) })
	defer stop()
	w.await(t, s)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for age := range changes {
		api.changes <- s.slice(5, 0, age+1)
		for receive(t, w.balance, "the change").Rows[state.RealServers].Desired != s.all() {
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / changes
}
