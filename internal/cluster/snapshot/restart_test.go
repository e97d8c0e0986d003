// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/snapshot"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// A node is restarted: the whole daemon over a kernel in memory.

// machine is a node's kernel, network and disk. A reboot loses only the first.
type machine struct {
	kernel *mem.Kernel
	file   string
	mutex  *sync.Mutex // of the kernel's real servers
}

func install(file string) machine { return machine{mem.New(), file, &sync.Mutex{}} }

// guarded is a table that the test reads while a daemon may write it.
type guarded struct {
	kernel.Store[state.RealServerKey, state.RealServer]
	mutex *sync.Mutex
}

func (g guarded) Apply(ctx context.Context, d diff.Delta[state.RealServerKey, state.RealServer]) kernel.Result[state.RealServerKey] {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.Store.Apply(ctx, d)
}

func (machine) Now(context.Context) (node.Event, error) {
	return node.Event{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, nil
}

func (machine) Watch(ctx context.Context, _ func(node.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (machine) Set(types.NamespacedName, plan.Fragment) {}
func (machine) Follow(plan.Node)                        {}

func (machine) Flush(context.Context, []state.Flow) (int, error) { return 0, nil }

// boot starts a daemon, whose API server speaks by the script, and returns how to stop it.
func (m machine) boot(t *testing.T, live snapshot.Script) func() {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ended := make(chan error, 1)
	tables := m.kernel.Tables()
	tables.RealServers = guarded{tables.RealServers, m.mutex}
	d := app.Daemon{
		Config:    config.Default(),
		NodeName:  "node-1",
		Source:    &snapshot.Source{Live: live, File: m.file, Node: "node-1"},
		Addresses: m,
		Kernel:    reconcile.Kernel{Tables: tables, Flusher: m, Connections: mem.Observer{Kernel: m.kernel}},
		Ports:     m,
		Log:       zap.NewNop(),
	}
	go func() { ended <- d.Run(ctx) }()
	return func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

func (m machine) mustServe(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	got := []string{}
	for k := range m.kernel.State.RealServers {
		got = append(got, k.String())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: real servers %q, want %q", when, got, want)
	}
}

const (
	toAPI = "TCP 10.96.0.2:80 -> 10.244.1.10:8080"
	toWeb = "TCP 10.96.0.1:80 -> 10.244.1.10:8080"
	toNew = "TCP 10.96.0.4:80 -> 10.244.1.10:8080"
)

func TestARebootWithTheAPIServerAwayServesWhatWasKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects")
	synctest.Test(t, func(t *testing.T) {
		m := install(file)
		live := snapshot.NewScript()
		stop := m.boot(t, live)
		live.Say("place node-1", "web 10.96.0.1 web-1", "api 10.96.0.2 api-1", "complete")
		m.mustServe(t, "at first", toWeb, toAPI)
		stop()

		m.kernel = mem.New() // all that the kernel knew is gone
		live = snapshot.NewScript()
		stop = m.boot(t, live)
		m.mustServe(t, "right after the reboot")
		time.Sleep(3 * time.Second) // of the bubble's clock
		m.mustServe(t, "some seconds after the reboot", toWeb, toAPI)
		time.Sleep(time.Hour)
		m.mustServe(t, "an hour after the reboot", toWeb, toAPI)

		live.Say("place node-1", "web 10.96.0.1 web-1", "new 10.96.0.4 new-1")
		time.Sleep(time.Minute)
		m.mustServe(t, "when the API server begins to answer", toWeb, toAPI, toNew)
		live.Say("complete")
		time.Sleep(time.Minute) // what went is drained by then
		m.mustServe(t, "when it answered", toWeb, toNew)
		stop()
	})
}

// The file of an old day is no word on what the kernel has from a newer one.
func TestARestartWithAnOldFileRemovesNothingUntilTheAPIServerAnswers(t *testing.T) {
	file := snapshot.KeepService(t, time.Unix(0, 0), "api", "10.96.0.2", "api-1")
	synctest.Test(t, func(t *testing.T) {
		m := install(filepath.Join(t.TempDir(), "another"))
		live := snapshot.NewScript()
		stop := m.boot(t, live)
		live.Say("place node-1", "web 10.96.0.1 web-1", "new 10.96.0.4 new-1", "complete")
		stop()
		m.mustServe(t, "before", toWeb, toNew)

		m.file, live = file, snapshot.NewScript()
		stop = m.boot(t, live)
		time.Sleep(time.Hour)
		m.mustServe(t, "with the old file", toWeb, toAPI, toNew)
		live.Say("place node-1", "web 10.96.0.1 web-1", "complete")
		time.Sleep(time.Minute)
		m.mustServe(t, "when the API server answered", toWeb)
		stop()
	})
}
