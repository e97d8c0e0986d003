// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"reflect"
	"testing"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// adapters are our kernel adapters in the namespace of the test.
type adapters struct {
	kernel *linux.Kernel
	tables kernel.Tables
	meter  *meter
}

func open(t testing.TB) *adapters {
	t.Helper()
	c, n := setting()
	var sysctls []state.SysctlName
	for _, row := range plan.Base(c).Sysctls {
		sysctls = append(sysctls, row.Key)
	}
	k, err := linux.Open(context.Background(), linux.Ours{Set: plan.OurSet, Chain: plan.OurChain, Sysctls: sysctls, Families: c.Families})
	if err != nil {
		t.Fatal(err)
	}
	h := &adapters{kernel: k, meter: &meter{spent: floor.Laps{}}}
	tables := k.Tables()
	tables.RealServers = kernel.Spread(tables.RealServers, n.Name)
	h.tables = h.meter.tables(tables)
	return h
}

func (h *adapters) close(t testing.TB) {
	t.Helper()
	if err := h.kernel.Close(); err != nil {
		t.Error(err)
	}
}

// run is the daemon over the kernel, until ctx ends.
func (h *adapters) run(ctx context.Context, t testing.TB, source memory) {
	t.Helper()
	c, n := setting()
	err := app.Daemon{
		Config:    c,
		NodeName:  n.Name,
		Source:    source,
		Addresses: large.Still(n.Addresses),
		Kernel:    reconcile.Kernel{Tables: h.tables, Flusher: h.kernel, Connections: h.kernel},
		Ports:     noPorts{},
		Log:       zap.NewNop(),
	}.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
}

// start is the daemon over an empty kernel, until all objects are served. The addresses come last of all.
func (h *adapters) start(t testing.TB, objects []plan.Objects) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	missing := 0
	for _, o := range objects {
		missing += len(o.Service.Spec.ClusterIPs)
	}
	h.tables.Addresses = watched[state.Address, state.Binding]{h.tables.Addresses, func(d diff.Delta[state.Address, state.Binding]) {
		if missing -= len(d.Add); missing <= 0 {
			stop()
		}
	}}
	h.run(ctx, t, memory{objects: objects})
}

// watched is a store that calls after with each delta that has been applied.
type watched[K, V comparable] struct {
	kernel.Store[K, V]
	after func(diff.Delta[K, V])
}

func (w watched[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	r := w.Store.Apply(ctx, d)
	w.after(d)
	return r
}

// mustHold checks that all tables are as desired, and empties the large ones, so that the end of the namespace takes no
// time from what comes next.
func mustHold(t testing.TB, want state.State) {
	t.Helper()
	h := open(t)
	defer h.close(t)
	got, err := h.tables.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := state.Diff(got, want); d.Len() > 0 || !reflect.DeepEqual(got, want) {
		t.Fatalf("%d rows are not as desired: %.2000v", d.Len(), d)
	}
	flushServers(t)
	if err := netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: string(state.DummyLink)}}); err != nil {
		t.Fatal(err)
	}
}

func flushServers(t testing.TB) {
	t.Helper()
	c := single(t)
	defer c.Close()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

func single(t testing.TB) *moby.Handle {
	t.Helper()
	c, err := moby.New("")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// noPorts opens none: what is measured is the kernel.
type noPorts struct{}

func (noPorts) Set(types.NamespacedName, plan.Fragment) {}
func (noPorts) Follow(plan.Node)                        {}
