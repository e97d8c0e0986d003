// SPDX-License-Identifier: Apache-2.0

// Package walk makes random walks through the life of a node and checks that the kernel ends up as desired. Services of
// both families are added, changed and deleted; a tenth of all row changes and lists fail; other programs delete and
// alter rows, empty tables and delete the device; and the daemon is killed and started again. The same walk runs on the
// kernel in memory and on a real one. The rows of others must survive all of it.
//
// Time is a number here and there are no goroutines: the same seed makes the same walk, and an audit, which the daemon
// runs beside its other work, reads a table at a time. go test -seed N makes only the walk of one seed.
package walk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// ground is a kernel to walk on.
type ground struct {
	tables    kernel.Tables // as the daemon has them
	all       kernel.Tables // with the rows of others
	flusher   reconcile.Flusher
	observer  reconcile.ConnectionReader
	breakages []func() // what no row can express
}

// walker is a daemon without goroutines, and all that happens to it.
type walker struct {
	testing.TB
	ground
	dice
	share float64 // of row changes and lists that fail

	core     *reconcile.Core
	beside   *beside // an audit that goes on; nil: there is none
	config   config.Config
	node     plan.Node
	now      time.Time
	services map[int]plan.Objects

	foreign  state.State // the rows of others
	there    state.State // those that are still there
	informed bool        // the daemon has seen all that is in the kernel since it started
	unproven bool        // entries that show what is ours have been removed
}

// faults is the share of row changes and lists that fail.
const faults = 0.1

func walk(t testing.TB, g ground, seed uint64, steps int) {
	w := begin(t, g, seed)
	for step := range steps {
		w.step()
		if (step+1)%100 == 0 || step+1 == steps {
			w.arrive()
		}
		if t.Failed() {
			t.Fatalf("in step %d; to make only this walk: -run '%s' -args -seed %d", step, t.Name(), seed)
		}
	}
}

func begin(t testing.TB, g ground, seed uint64) *walker {
	w := &walker{
		TB: t, ground: g,
		dice:     dice{rand.New(rand.NewPCG(seed, 96))},
		share:    faults,
		config:   config.Default(),
		node:     plan.Node{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}},
		now:      time.Unix(1_000_000, 0),
		services: map[int]plan.Objects{},
		foreign:  foreignRows(),
	}
	w.config.DrainTimeout = time.Minute
	w.tables = testkit.FaultyWhile(g.tables, w.Rand, func() float64 { return w.share })
	w.start()
	w.pass(time.Second)
	w.restore()
	return w
}

// step is one thing that happens, and some time.
func (w *walker) step() {
	switch n := w.IntN(20); {
	case n < 3:
		w.vandalise()
	case n < 4:
		w.restart()
	case n < 5:
		w.crash()
	case n < 8:
		w.delete(w.IntN(20))
	default:
		for range 1 + w.IntN(3) {
			w.upsert(w.IntN(20))
		}
	}
	w.pass(time.Duration(w.IntN(3000)) * time.Millisecond)
}

// start is the start of a daemon: it knows only the kernel and the objects.
func (w *walker) start() {
	w.informed, w.beside = false, nil
	w.core = reconcile.NewCore(reconcile.Options{
		Ownership:    plan.Ownership{},
		SyncPeriod:   w.config.SyncPeriod,
		DrainTimeout: w.config.DrainTimeout,
		DrainCheck:   time.Second,
		AuditPause:   time.Second,
		Chunk:        1 + w.IntN(200),
	})
	w.send(reconcile.Upsert{Fragment: plan.Base(w.config)})
	w.send(reconcile.Local{Addresses: w.node.Addresses})
	for _, n := range slices.Sorted(maps.Keys(w.services)) {
		w.plan(n)
	}
	w.send(reconcile.Synced{})
}

func (w *walker) send(e reconcile.Event) { w.core.Step(e, w.now) }

func owner(n int) desired.Owner { return desired.Owner{Namespace: "shop", Name: serviceName(n)} }

func (w *walker) plan(n int) {
	w.send(reconcile.Upsert{Owner: owner(n), Fragment: plan.Service(w.services[n], w.node, w.config)})
}

func (w *walker) upsert(n int) {
	w.services[n] = w.objects(n)
	w.plan(n)
}

func (w *walker) delete(n int) {
	delete(w.services, n)
	w.send(reconcile.Delete{Owner: owner(n)})
}

// restart is kill -9 and a new start. Only set entries show a new daemon which rows are ours: if some have been
// removed, the old one has to write them again first.
func (w *walker) restart() {
	if w.unproven {
		w.calm(2 * w.config.SyncPeriod)
		w.unproven = false
	}
	w.start()
}

// crash is a kill in the middle of a change, of which any rows may have been written.
func (w *walker) crash() {
	if w.unproven {
		w.restart()
		w.calm(time.Second)
	}
	for range 5 {
		w.upsert(w.IntN(20))
	}
	w.delete(w.IntN(20))
	if work := w.core.Ready(w.now); !work.Audit {
		w.share = 0.5
		w.tables.Apply(context.Background(), work.Delta)
		w.share = faults
	}
	w.start()
}

// calm lets time pass without faults.
func (w *walker) calm(d time.Duration) {
	w.share = 0
	w.proceed(everything)
	w.pass(d)
	w.share = faults
}

// pass lets time pass from one wake-up of the daemon to the next.
func (w *walker) pass(d time.Duration) {
	for end := w.now.Add(d); ; {
		w.settle()
		wake := w.core.Wake()
		if wake.After(end) {
			w.now = end
			return
		}
		if !wake.After(w.now) {
			w.Fatalf("the daemon wants to be woken at %v although nothing is due at %v", wake, w.now)
		}
		w.now = wake
	}
}

// settle works until nothing is due at the present time. As in the daemon, an audit and the work that follows from it
// are one round.
func (w *walker) settle() {
	ctx := context.Background()
	for range 1000 {
		w.proceed(w.IntN(3))
		work := w.core.Ready(w.now)
		if work.Empty() {
			return
		}
		if work.Concurrent && w.share > 0 && w.IntN(3) > 0 {
			w.beside = &beside{work, testkit.Begin(w.tables)}
			continue
		}
		if work.Audit {
			ctx = kernel.NewRound(context.Background())
		}
		w.core.Advance(work, w.do(ctx, work), w.now)
	}
	w.Fatal("the daemon does not settle: more than 1000 works are due at one moment")
}

// beside is an audit that goes on while other work is done.
type beside struct {
	work    reconcile.Work
	listing *testkit.Listing
}

const everything = 100

// proceed reads so many more tables for the audit that goes on.
func (w *walker) proceed(tables int) {
	b := w.beside
	if b == nil || !b.listing.Go(tables) {
		return
	}
	w.beside = nil
	w.informed = w.informed || b.listing.Err == nil
	w.core.Advance(b.work, reconcile.Outcome{Observed: b.listing.State, ObserveErr: b.listing.Err}, w.now)
}

var errFault = errors.New("injected fault")

func (w *walker) do(ctx context.Context, work reconcile.Work) (o reconcile.Outcome) {
	if work.Audit {
		o.Observed, o.ObserveErr = w.tables.List(ctx)
		w.informed = w.informed || o.ObserveErr == nil
		return o
	}
	o.Results = w.tables.Apply(ctx, work.Delta)
	if len(work.Flows) > 0 {
		if _, o.FlushErr = w.flusher.Flush(ctx, work.Flows); w.Float64() < w.share {
			o.FlushErr = errFault
		}
	}
	if len(work.Servers) > 0 {
		if o.Connections, o.LookErr = w.observer.Connections(ctx, work.Servers); w.Float64() < w.share {
			o.Connections, o.LookErr = nil, errFault
		}
		w.pretend(o.Connections)
	}
	return o
}

// pretend gives half of the real servers a connection.
func (w *walker) pretend(connections map[state.RealServerKey]state.Connections) {
	for _, k := range slices.SortedFunc(maps.Keys(connections), state.RealServerKey.Compare) {
		if w.IntN(2) == 0 {
			connections[k] = state.Connections{Active: 1}
		}
	}
}

// arrive gives the daemon time without faults, and then compares.
func (w *walker) arrive() {
	w.calm(time.Second)
	w.restore()
	w.calm(3 * time.Minute)
	w.unproven = false
	have := w.listing()
	w.spared(have)
	ours, want := without(have, w.foreign), w.core.Desired()
	maps.DeleteFunc(ours.Sysctls, func(n state.SysctlName, _ string) bool { _, wanted := want.Sysctls[n]; return !wanted })
	if d := state.Diff(ours, want); d.Len() > 0 {
		w.Errorf("the kernel is %d rows away from the desired ones: %s", d.Len(), few(d))
	}
}

// few formats a delta, cut to a readable length.
func few(d state.Delta) string {
	text := fmt.Sprintf("%+v", d)
	return text[:min(len(text), 4000)]
}
