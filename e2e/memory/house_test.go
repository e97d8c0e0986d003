// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/kube"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// source follows the API server at a URL.
func source(t testing.TB, url string) *kube.Source {
	t.Helper()
	c, err := kube.Connect(config.Client{Master: url, ContentType: protobuf, QPS: -1}, "kube-ipvs/test")
	if err != nil {
		t.Fatal(err)
	}
	return &kube.Source{Client: c, Node: here, Log: zap.NewNop()}
}

// deaf is a sink that keeps nothing, and says when all was told.
type deaf struct{ all chan struct{} }

func (deaf) Service(types.NamespacedName, *cluster.Objects) {}

func (deaf) Place(cluster.Place) {}

func (d deaf) Listed(e cluster.Extent) {
	if e == cluster.Complete {
		close(d.all)
	}
}

// settled is a witness that tells of each Balance.
type settled struct{ balance chan reconcile.Balance }

func (settled) Received(reconcile.Change) {}
func (settled) Acted(reconcile.Act)       {}

// Settled keeps the last one for whoever waits.
func (s settled) Settled(b reconcile.Balance) {
	select {
	case <-s.balance:
	default:
	}
	s.balance <- b
}

// running starts something and stops it at the end of the test, or before.
func running(t testing.TB, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// patience is far more than anything here takes.
const patience = 5 * time.Minute

// receive waits for a value.
func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not in time: %s", what)
		panic("unreachable")
	}
}

// house is the daemon over a kernel that takes everything and keeps nothing.
func house(from cluster.Source) (app.Daemon, settled) {
	w := settled{make(chan reconcile.Balance, 1)}
	c := config.Default()
	c.SyncPeriod = time.Hour
	return app.Daemon{
		Config:    c,
		NodeName:  here,
		Source:    from,
		Addresses: large.Still{netip.MustParseAddr("192.0.2.1")},
		Kernel:    reconcile.Kernel{Tables: testkit.Holes(), Flusher: testkit.Idle{}, Connections: testkit.Idle{}},
		Ports:     noPorts{},
		Observer:  w,
		Log:       zap.NewNop(),
	}, w
}

// noPorts opens none: what is measured is memory.
type noPorts struct{}

func (noPorts) Set(types.NamespacedName, plan.Fragment) {}
func (noPorts) Follow(plan.Node)                        {}
