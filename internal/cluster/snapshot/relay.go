// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// relay is the sink of Live. It passes everything on, and keeps pointers to the last objects. Both Live's goroutine and
// the one that restores report to the real sink, under the mutex.
type relay struct {
	complete chan struct{} // closed when Live reported everything
	changed  chan struct{} // has an element when there may be something to write
	live     func()        // called before the sink gets Complete

	mutex    sync.Mutex
	sink     cluster.Sink
	extent   cluster.Extent                            // reported so far; 0: none
	services map[types.NamespacedName]*cluster.Objects // Live's; nil: gone, kept until Complete
	place    *cluster.Place                            // Live's; nil: not reported
	restored map[types.NamespacedName]bool             // reported from the file only
	borrowed bool                                      // the reported place is the file's
	version  uint64                                    // of what can be written; 0: not everything is known
}

var _ cluster.Sink = (*relay)(nil)

func newRelay(sink cluster.Sink, live func()) *relay {
	return &relay{
		complete: make(chan struct{}),
		changed:  make(chan struct{}, 1),
		live:     live,
		sink:     sink,
		services: map[types.NamespacedName]*cluster.Objects{},
		restored: map[types.NamespacedName]bool{},
	}
}

// Service passes on what Live reported, which replaces what was restored.
func (r *relay) Service(key types.NamespacedName, o *cluster.Objects) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.services[key] = o
	if o == nil && r.extent == cluster.Complete {
		delete(r.services, key)
	}
	delete(r.restored, key)
	r.sink.Service(key, o)
	r.touch()
}

// Place passes on what Live reported.
func (r *relay) Place(p cluster.Place) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.place, r.borrowed = &p, false
	r.sink.Place(p)
	r.touch()
}

// Listed passes on what Live reported. Before Complete, what only the file had is reported as gone.
func (r *relay) Listed(e cluster.Extent) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.extent >= e {
		return
	}
	if e == cluster.Complete {
		r.dismiss()
		r.live()
	}
	r.extent = e
	r.sink.Listed(e)
	if e == cluster.Complete {
		close(r.complete)
		r.touch()
	}
}

func (r *relay) dismiss() {
	if r.borrowed {
		r.borrowed = false
		r.sink.Place(cluster.Place{})
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.restored), cluster.CompareKeys) {
		r.sink.Service(key, nil)
	}
	r.restored = nil
	maps.DeleteFunc(r.services, func(_ types.NamespacedName, o *cluster.Objects) bool { return o == nil })
}

// restore reports the objects of c that Live has not reported, unless Live is complete.
func (r *relay) restore(ctx context.Context, c content, restored func()) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.extent == cluster.Complete || ctx.Err() != nil {
		return false
	}
	if r.place == nil {
		r.borrowed = true
		r.sink.Place(c.place)
	}
	for _, o := range c.services {
		key := o.Service.Key()
		if _, live := r.services[key]; !live {
			r.restored[key] = true
			r.sink.Service(key, o)
		}
	}
	restored()
	if r.extent != cluster.Restored {
		r.extent = cluster.Restored
		r.sink.Listed(cluster.Restored)
	}
	return true
}

func (r *relay) touch() {
	if r.extent == cluster.Complete {
		r.version++
		r.wake()
	}
}

func (r *relay) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// current returns everything that Live reported, sorted, and its version. Live only waits while pointers are copied.
// There is nothing if the version is 0, or known.
func (r *relay) current(known uint64) (content, uint64) {
	r.mutex.Lock()
	if r.version == known {
		r.mutex.Unlock()
		return content{}, known
	}
	var c content
	if r.place != nil {
		c.place = *r.place
	}
	services, version := maps.Clone(r.services), r.version
	r.mutex.Unlock()

	for _, key := range slices.SortedFunc(maps.Keys(services), cluster.CompareKeys) {
		c.services = append(c.services, services[key])
	}
	return c, version
}
