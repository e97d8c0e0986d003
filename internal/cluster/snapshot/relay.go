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

// relay is the sink that Live tells. It passes everything on, and keeps the pointers to what was told last:
// objects are not changed after they were told.
//
// Live's goroutine and the one that restores both tell the real sink, under the mutex: what one of them tells
// is whole before the other goes on.
type relay struct {
	complete chan struct{} // closed when Live told all
	changed  chan struct{} // has something when there may be something to write
	live     func()        // called before the sink is told that all is told

	mutex    sync.Mutex
	sink     cluster.Sink
	extent   cluster.Extent                            // told so far; 0: none
	services map[types.NamespacedName]*cluster.Objects // Live's; nil: gone, kept until Complete
	place    *cluster.Place                            // Live's; nil: not told
	restored map[types.NamespacedName]bool             // told by the file alone
	borrowed bool                                      // the place is the file's
	version  uint64                                    // of what is there to write; 0: not all is known
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

// Service passes on what Live told, which wins over what was restored.
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

// Place passes on what Live told.
func (r *relay) Place(p cluster.Place) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.place, r.borrowed = &p, false
	r.sink.Place(p)
	r.touch()
}

// Listed passes on what Live told. Before all is said to be told, what only the file knew is told to be gone.
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

// dismiss lets go of what was restored.
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

// restore tells what Live has not told of yet, unless it has told all. It says whether it did.
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
		if _, told := r.services[key]; !told {
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

// touch notes a change of what is to be written.
func (r *relay) touch() {
	select {
	case <-r.complete:
	default:
		return
	}
	r.version++
	r.wake()
}

func (r *relay) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// current is all that Live told, sorted, and which version of it this is. Live waits for as long as it takes
// to copy the pointers, and for no more. There is nothing as long as the version is 0, or if it is the one
// that is known.
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
