// SPDX-License-Identifier: Apache-2.0

package app

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// serviceObjects keeps the objects of each Service, for the planner and the notices. Nothing else behind the
// source does.
type serviceObjects struct {
	mutex    sync.Mutex // not the planner's: notices are also sent while the planner waits for the loop
	services map[types.NamespacedName]*cluster.Objects
}

func newServiceObjects() *serviceObjects {
	return &serviceObjects{services: map[types.NamespacedName]*cluster.Objects{}}
}

// set replaces the objects of a Service; nil removes them. It returns the previous ones.
func (s *serviceObjects) set(key types.NamespacedName, o *cluster.Objects) (before *cluster.Objects) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	before = s.services[key]
	s.services[key] = o
	if o == nil {
		delete(s.services, key)
	}
	return before
}

// of returns the objects of a Service; nil if there are none.
func (s *serviceObjects) of(key types.NamespacedName) *cluster.Objects {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.services[key]
}

// keys returns the keys of all Services, sorted.
func (s *serviceObjects) keys() []types.NamespacedName {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.SortedFunc(maps.Keys(s.services), cluster.CompareKeys)
}
