// SPDX-License-Identifier: Apache-2.0

package app

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// register has the objects of each Service, for the view that plans them and the
// notices that tell of them: the one place behind the source where they are kept.
type register struct {
	// A lock of its own: some of those who notice run while the view's is held,
	// others while the view waits for them.
	mutex    sync.Mutex
	services map[types.NamespacedName]*cluster.Objects
}

func newRegister() *register { return &register{services: map[types.NamespacedName]*cluster.Objects{}} }

// set takes in the objects of a Service, or that there are none, and returns those
// before.
func (r *register) set(key types.NamespacedName, o *cluster.Objects) *cluster.Objects {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	before := r.services[key]
	r.services[key] = o
	if o == nil {
		delete(r.services, key)
	}
	return before
}

// of returns the objects of a Service; nil: there are none.
func (r *register) of(key types.NamespacedName) *cluster.Objects {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.services[key]
}

// keys are those of all Services, sorted.
func (r *register) keys() []types.NamespacedName {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.SortedFunc(maps.Keys(r.services), cluster.CompareKeys)
}
