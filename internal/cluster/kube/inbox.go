// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// inbox holds what came and was not taken yet: each object once, however often it changed.
type inbox struct {
	wake chan struct{} // has an element if there may be something

	mutex   sync.Mutex
	waiting [kindCount]batch
}

// batch is what came of one kind.
type batch struct {
	whole   bool                         // objects that are not in it are gone
	objects map[types.NamespacedName]any // as they are kept; nil: removed
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put takes in an object; nil: it is gone.
func (x *inbox) put(kind int, key types.NamespacedName, o any) {
	x.mutex.Lock()
	b := &x.waiting[kind]
	if b.objects == nil {
		b.objects = map[types.NamespacedName]any{}
	}
	b.objects[key] = o
	x.mutex.Unlock()
	x.ring()
}

// replace takes in all objects of a kind.
func (x *inbox) replace(kind int, all map[types.NamespacedName]any) {
	x.mutex.Lock()
	x.waiting[kind] = batch{whole: true, objects: all}
	x.mutex.Unlock()
	x.ring()
}

func (x *inbox) ring() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// take returns everything and empties the inbox.
func (x *inbox) take() [kindCount]batch {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	taken := x.waiting
	x.waiting = [kindCount]batch{}
	return taken
}

// apply updates index and notes in c what changed.
func (b batch) apply(k kind, index *cluster.Index, c *cluster.Changes) {
	if b.whole {
		for _, key := range k.keys(index) {
			if b.objects[key] == nil {
				k.remove(index, key, c)
			}
		}
	}
	for key, o := range b.objects {
		if o == nil {
			k.remove(index, key, c)
		} else {
			k.set(index, o, c)
		}
	}
}
