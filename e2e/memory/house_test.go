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

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/kube"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/kube/client"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/daemon"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// source follows the API server at a URL.
func source(t testing.TB, url string) *kube.Source {
	t.Helper()
	c, err := client.Connect(config.Client{Master: url, ContentType: protobuf, QPS: -1}, "kube-ipvs/test")
	if err != nil {
		t.Fatal(err)
	}
	return &kube.Source{Client: c, Node: here, Log: zap.NewNop()}
}

// deaf is a sink that keeps nothing, and says when all was told.
type deaf struct{ all chan struct{} }

func (deaf) Service(types.NamespacedName, *cluster.Objects) {}

func (deaf) Place(cluster.Place) {}

func (d deaf) Told(e cluster.Extent) {
	if e == cluster.Complete {
		close(d.all)
	}
}

// settled is a witness that tells of each Balance.
type settled struct{ balance chan reconcile.Balance }

func (settled) Took(reconcile.Change) {}
func (settled) Did(reconcile.Act)     {}

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
func house(from cluster.Source) (daemon.Daemon, settled) {
	w := settled{make(chan reconcile.Balance, 1)}
	c := config.Default()
	c.SyncPeriod = time.Hour
	return daemon.Daemon{
		Config:    c,
		NodeName:  here,
		Source:    from,
		Addresses: still{netip.MustParseAddr("192.0.2.1")},
		Kernel:    reconcile.Kernel{Tables: abyss(), Flusher: nobody{}, Observer: nobody{}},
		Ports:     nobody{},
		Witness:   w,
		Log:       zap.NewNop(),
	}, w
}

// still is a node whose addresses never change.
type still []netip.Addr

func (s still) Addresses(context.Context) ([]netip.Addr, error) { return s, nil }

func (still) Gateways(context.Context) ([]netip.Addr, error) { return nil, nil }

func (s still) Watch(ctx context.Context, _ func(node.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}

type nobody struct{}

func (nobody) Set(types.NamespacedName, plan.Fragment) {}
func (nobody) Follow(plan.Node)                        {}

func (nobody) Flush(context.Context, []state.Flow) (int, error) { return 0, nil }

func (nobody) Connections(context.Context, []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return nil, nil
}

// hole is a table that takes everything and keeps nothing.
type hole[K, V comparable] struct{}

func (hole[K, V]) List(context.Context) (map[K]V, error) { return map[K]V{}, nil }

func (hole[K, V]) Apply(context.Context, diff.Delta[K, V]) kernel.Result[K] {
	return kernel.Result[K]{}
}

func abyss() kernel.Tables {
	return kernel.Tables{
		Sysctls:        hole[state.SysctlName, string]{},
		Sets:           hole[state.SetName, state.Set]{},
		Entries:        hole[state.SetEntry, state.Entry]{},
		Chains:         hole[state.ChainKey, state.Chain]{},
		Jumps:          hole[state.JumpKey, state.Jump]{},
		Links:          hole[state.LinkName, state.Link]{},
		VirtualServers: hole[state.VirtualServerKey, state.VirtualServer]{},
		RealServers:    hole[state.RealServerKey, state.RealServer]{},
		Addresses:      hole[state.Address, state.Binding]{},
	}
}
