// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// feed brings all objects of one kind into the inbox. It is the store of client-go's reflector.
type feed struct {
	number int
	kind   kind
	inbox  *inbox
	link   *link
	pauses pauses
	log    *zap.Logger

	listed  bool      // the inbox got a whole list
	without bool      // the server does not serve the kind to us
	refused time.Time // since when the server refuses the kind; zero: it does not
}

var (
	_ cache.TransformingStore      = (*feed)(nil)
	_ cache.ReflectorBookmarkStore = (*feed)(nil)
)

// healthy is how long a watch must last to reset the pauses.
const healthy = 2 * time.Minute

func (f *feed) run(ctx context.Context) {
	again := f.pauses.again
	requests := &cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}
	r := cache.NewReflectorWithOptions(requests, f.kind.object, f, cache.ReflectorOptions{
		Name: "kube-ipvs " + f.kind.resource, Backoff: &again, Clock: impatient{ctx: ctx, link: f.link},
	})
	for ctx.Err() == nil {
		began := time.Now()
		err := r.ListAndWatchWithContext(ctx)
		if time.Since(began) > healthy {
			again = f.pauses.again
		}
		pause := again.Step()
		if f.isUnavailable(err) {
			f.goWithout(err)
			pause = f.pauses.refused
		}
		select {
		case <-ctx.Done():
		case <-f.link.returns():
		case <-time.After(pause):
		}
	}
}

// isUnavailable reports whether the kind is not available. A refusal must last: an API server that has just started
// forbids everything until it knows the roles.
func (f *feed) isUnavailable(err error) bool {
	if !f.kind.optional || !isRefusal(err) {
		f.refused = time.Time{}
		return false
	}
	if f.refused.IsZero() {
		f.refused = time.Now()
	}
	return apierrors.IsNotFound(err) || time.Since(f.refused) > f.pauses.doubt
}

// goWithout assumes that there are no objects of the kind, unless there were some.
func (f *feed) goWithout(err error) {
	if !f.without {
		f.without = true
		f.log.Warn("API server does not serve a kind of objects; continuing without it",
			zap.String("kind", f.kind.resource), zap.Error(err))
	}
	if !f.listed {
		f.listed = true
		f.inbox.replace(f.number, map[types.NamespacedName]any{})
	}
}

// Transformer packs the objects of a streaming list as they arrive: see list.
func (f *feed) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return f.item(o) }
}

// Add takes in a new object.
func (f *feed) Add(o any) error { return f.Update(o) }

// Update takes in an object.
func (f *feed) Update(o any) error {
	f.link.heard()
	i, err := f.item(o)
	if err == nil {
		f.inbox.put(f.number, i.key, i.kept)
	}
	return err
}

// Delete notes that an object is gone.
func (f *feed) Delete(o any) error {
	f.link.heard()
	_, key, err := f.named(o)
	if err == nil {
		f.inbox.put(f.number, key, nil)
	}
	return err
}

// Replace takes in all objects.
func (f *feed) Replace(list []any, _ string) error {
	f.link.heard()
	f.without = false
	all := make(map[types.NamespacedName]any, len(list))
	for _, o := range list {
		i, err := f.item(o)
		if err != nil {
			return err
		}
		all[i.key] = i.kept
	}
	f.listed = true
	f.inbox.replace(f.number, all)
	return nil
}

// Bookmark notes that nothing happened up to a version.
func (f *feed) Bookmark(string) error {
	f.link.heard()
	return nil
}

// Resync does nothing.
func (f *feed) Resync() error { return nil }

func (f *feed) item(o any) (item, error) {
	if i, ok := o.(item); ok {
		return i, nil
	}
	object, key, err := f.named(o)
	if err != nil {
		return item{}, err
	}
	return item{key, f.kind.keep(object)}, nil
}

func (f *feed) named(o any) (runtime.Object, types.NamespacedName, error) {
	object, ok := o.(runtime.Object)
	if !ok {
		return nil, types.NamespacedName{}, fmt.Errorf("take in one of %s: %T is no object", f.kind.resource, o)
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, types.NamespacedName{}, fmt.Errorf("take in one of %s: %w", f.kind.resource, err)
	}
	return object, types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}

// impatient is a clock whose waits end with ctx, which a reflector ignores while a streaming list is refused, or when
// another feed finds that the API server is back.
type impatient struct {
	clock.RealClock
	ctx  context.Context
	link *link
}

func (i impatient) After(d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	timer := time.NewTimer(d)
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-i.link.returns():
		case <-i.ctx.Done():
		}
		c <- i.Now()
	}()
	return c
}

// Status describes the connection to the API server.
type Status struct {
	Connected bool      // it answers all requests
	Since     time.Time // when Connected became so
	LastEvent time.Time // when it last sent anything; zero: never
}

// link tracks the connection to the API server by the results of requests. It logs changes, not each try.
type link struct {
	mutex   sync.Mutex
	log     *zap.Logger
	state   Status
	failing map[string]bool // by kind of objects
	working map[string]bool
	silent  bool          // nothing was logged yet
	back    chan struct{} // closed when one of several failed kinds works again
}

func (l *link) begin(log *zap.Logger) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.log, l.silent = log, true
	l.state.Since = time.Now()
	l.failing, l.working = map[string]bool{}, map[string]bool{}
	l.back = make(chan struct{})
}

func (l *link) status() Status {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.state
}

func (l *link) heard() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.state.LastEvent = time.Now()
}

func (l *link) answered(kind string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.state.LastEvent = time.Now()
	l.working[kind] = true
	if delete(l.failing, kind); len(l.failing) > 0 {
		close(l.back)
		l.back = make(chan struct{})
	}
	if l.state.Connected || len(l.failing) > 0 || len(l.working) < kindCount {
		return
	}
	l.log.Info("connected to API server", zap.Duration("after", l.set(true)))
}

// returns returns a channel that is closed when it is worth asking again.
func (l *link) returns() <-chan struct{} {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.back
}

func (l *link) failed(kind string, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.failing[kind] = true
	if !l.state.Connected && !l.silent {
		l.log.Debug("API server still unreachable", zap.String("kind", kind), zap.Error(err))
		return
	}
	l.log.Warn("API server does not answer; keeping what is known and retrying",
		zap.String("kind", kind), zap.Time("lastEvent", l.state.LastEvent), zap.Error(err))
	l.set(false)
}

// set notes the new state of the connection, and returns how long the old one lasted.
func (l *link) set(connected bool) time.Duration {
	l.silent = false
	was := l.state
	if was.Connected != connected {
		l.state.Connected, l.state.Since = connected, time.Now()
	}
	return time.Since(was.Since)
}
