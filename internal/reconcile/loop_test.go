// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// reports are what an Observer got.
type reports struct {
	changes  []Change
	acts     []Act
	balances []Balance
}

func (d reports) last() Balance { return d.balances[len(d.balances)-1] }

// diary is an Observer that remembers all. Time alone does not order what two goroutines of a bubble do.
type diary struct {
	mutex   sync.Mutex
	reports reports
}

func (d *diary) write(f func(*reports)) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	f(&d.reports)
}

func (d *diary) read() reports {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return reports{slices.Clone(d.reports.changes), slices.Clone(d.reports.acts), slices.Clone(d.reports.balances)}
}

func (d *diary) Received(c Change) { d.write(func(t *reports) { t.changes = append(t.changes, c) }) }
func (d *diary) Acted(a Act)       { d.write(func(t *reports) { t.acts = append(t.acts, a) }) }
func (d *diary) Settled(b Balance) { d.write(func(t *reports) { t.balances = append(t.balances, b) }) }

// odd is a table that takes its time, and refuses some rows.
type odd[K, V comparable] struct {
	kernel.Store[K, V]
	takes   time.Duration
	refuses func(K) bool
}

func (o odd[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	time.Sleep(o.takes) // of the bubble's clock
	var refused []K
	for _, r := range d.Add {
		if o.refuses(r.Key) {
			refused = append(refused, r.Key)
		}
	}
	d.Add = slices.DeleteFunc(slices.Clone(d.Add), func(r diff.Row[K, V]) bool { return o.refuses(r.Key) })
	result := o.Store.Apply(ctx, d)
	for _, k := range refused {
		result.Fail(k, errors.New("refused"))
	}
	return result
}

// works is a loop at work in a bubble.
type works struct {
	kernel *mem.Kernel
	diary  *diary
	events chan Event
	began  time.Time
	takes  time.Duration
	chunk  int
	aside  *slow

	mutex   sync.Mutex
	refused map[state.VirtualServerKey]bool // whose real servers
}

func (w *works) refuse(keys ...state.VirtualServerKey) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.refused = map[state.VirtualServerKey]bool{}
	for _, k := range keys {
		w.refused[k] = true
	}
}

func (w *works) refuses(k state.RealServerKey) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.refused[k.Server]
}

func (w *works) Flush(_ context.Context, flows []state.Flow) (int, error) { return len(flows), nil }

func run(t *testing.T, w *works, pause time.Duration) {
	w.kernel, w.diary, w.events, w.began = mem.New(), &diary{}, make(chan Event, 100), time.Now()
	tables := w.kernel.Tables()
	tables.RealServers = odd[state.RealServerKey, state.RealServer]{tables.RealServers, w.takes, w.refuses}
	o := testOptions()
	o.MinSyncPeriod, o.Chunk = pause, w.chunk
	k := Kernel{Tables: tables, Flusher: w, Connections: mem.Observer{Kernel: w.kernel}}
	if w.aside != nil {
		k.Reader = w.aside
	}
	l := NewLoop(o, k, zap.NewNop(), w.diary)
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		synctest.Wait()
	})
	go l.Run(ctx, w.events)
	w.tell(Upsert{Fragment: base()})
}

func (w *works) tell(events ...Event) {
	for _, e := range events {
		w.events <- e
	}
	synctest.Wait()
}

// pass lets time go by.
func (w *works) pass(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// change gives the Service n another number of endpoints.
func change(n, endpoints int) Upsert {
	return Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, endpoints), Origin: Origin{Queued: time.Now()}}
}

// written are the ends of all writes of real servers, after the beginning.
func (w *works) written() []time.Duration {
	var ends []time.Duration
	for _, a := range w.diary.read().acts {
		if a.Work.Delta.RealServers.Len() > 0 {
			ends = append(ends, a.Began.Add(a.Took).Sub(w.began))
		}
	}
	return ends
}

func TestChangesAreCollectedFromTheEndOfOneWriteToTheNext(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name  string
		pause time.Duration
		at    []time.Duration // when something changes
		want  []time.Duration // when it has been written: each write takes a second
	}{
		{"no pause", 0, []time.Duration{10 * s, 12 * s, 13500 * time.Millisecond}, []time.Duration{s, 11 * s, 13 * s, 14500 * time.Millisecond}},
		{"the first after quiet is written at once", 5 * s, []time.Duration{10 * s}, []time.Duration{s, 11 * s}},
		{"what comes in the pause is written together", 5 * s,
			[]time.Duration{10 * s, 12 * s, 13 * s, 14 * s, 30 * s}, []time.Duration{s, 11 * s, 17 * s, 31 * s}},
		{"after the start too", 5 * s, []time.Duration{2 * s}, []time.Duration{s, 7 * s}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &works{takes: s}
			run(t, w, c.pause)
			w.tell(change(1, 1), Synced{})
			for i, at := range c.at {
				w.pass(at - time.Since(w.began))
				w.tell(change(1, i+2))
			}
			w.pass(c.pause + 2*s)
			if got := w.written(); !slices.Equal(got, c.want) {
				t.Errorf("%s: written at %v, want %v", c.name, got, c.want)
			}
		})
	}
}

// A chunk takes a second, and the large change some fifty.
func TestAChangeIsTakenInWhileALargeOneIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &works{takes: time.Second, chunk: 20}
		run(t, w, 0)
		w.tell(Synced{})
		w.pass(time.Second)
		w.tell(change(1, 1000))
		w.pass(5500 * time.Millisecond)
		settled := len(w.diary.read().balances)
		w.tell(change(2, 1))
		w.pass(3 * time.Second)
		if d := w.diary.read(); len(d.balances) != settled || d.acts[len(d.acts)-1].Cause != CauseChange {
			t.Fatal("the large change did not take long")
		}
		if !slices.ContainsFunc(w.diary.read().acts, func(a Act) bool {
			return slices.ContainsFunc(a.Work.Delta.RealServers.Add, func(r diff.Row[state.RealServerKey, state.RealServer]) bool {
				return r.Key.Server == server(2, state.TCP)
			})
		}) {
			t.Error("the small change waits for all of the large one")
		}
		for n := range 200 {
			w.tell(change(3, 1+n))
			w.pass(500 * time.Millisecond)
		}
		if got := len(w.diary.read().balances); got < settled+5 {
			t.Errorf("settled %d times while changes kept coming", got-settled)
		}
		w.pass(time.Minute) // what is being written is finished
	})
}

// silent is a table whose kernel never answers, for as long as a caller waits.
type silent[K, V comparable] struct{ kernel.Store[K, V] }

func (silent[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	<-ctx.Done()
	var r kernel.Result[K]
	for _, row := range d.Add {
		r.Fail(row.Key, ctx.Err())
	}
	return r
}

func TestALostAnswerKeepsNobodyFromEnding(t *testing.T) {
	for name, begin := range map[string]func(ctx context.Context, k Kernel) (ended <-chan struct{}){
		"the loop": func(ctx context.Context, k Kernel) <-chan struct{} {
			events, ended := make(chan Event, 10), make(chan struct{})
			events <- Upsert{Fragment: base()}
			events <- Synced{}
			go func() {
				defer close(ended)
				NewLoop(testOptions(), k, zap.NewNop(), nil).Run(ctx, events)
			}()
			return ended
		},
		"a task": func(ctx context.Context, k Kernel) <-chan struct{} {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if err := (Task{Options: testOptions(), Kernel: k}).Run(ctx, Upsert{Fragment: base()}, Synced{}); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
			return ended
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mem.New()
				k := Kernel{Tables: m.Tables(), Connections: mem.Observer{Kernel: m}}
				k.Tables.Sets = silent[state.SetName, state.Set]{k.Tables.Sets}
				ctx, stop := context.WithCancel(t.Context())
				ended := begin(ctx, k)
				synctest.Wait()
				asked := time.Now()
				stop()
				<-ended
				if took := time.Since(asked); took != grace {
					t.Errorf("it took %v to end, want %v", took, grace)
				}
			})
		})
	}
}
