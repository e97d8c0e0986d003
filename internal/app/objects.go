// SPDX-License-Identifier: Apache-2.0

package app

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// serviceObjects keeps the objects of each Service, for the planner and the notices.
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

// originOf returns what changed in a Service's objects. Triggers from before the program started do not count.
func originOf(before, now *cluster.Objects, started time.Time) reconcile.Origin {
	var o reconcile.Origin
	if serviceOf(before) != serviceOf(now) {
		o.Services = 1
	}
	known := map[types.NamespacedName]cluster.Slice{}
	for _, s := range slicesOf(before) {
		name, _ := s.Names()
		known[name] = s
	}
	for _, s := range slicesOf(now) {
		name, _ := s.Names()
		old := known[name]
		delete(known, name)
		if old == s {
			continue
		}
		o.Slices++
		if old.Same(s) {
			continue
		}
		if t, ok := triggerOf(s); ok && t.At.After(started) {
			o.Triggers = append(o.Triggers, t)
		}
	}
	o.Slices += len(known)
	o.Anew = len(known) > 0 // the trigger of a deleted slice is not the time of the deletion
	return o
}

func serviceOf(o *cluster.Objects) cluster.Service {
	if o == nil {
		return cluster.Service{}
	}
	return o.Service
}

func slicesOf(o *cluster.Objects) []cluster.Slice {
	if o == nil {
		return nil
	}
	return o.Slices
}

// triggerOf returns the time of the change that the slice itself names.
func triggerOf(s cluster.Slice) (reconcile.Trigger, bool) {
	at, of, ok := s.Trigger()
	family, err := state.ParseFamily(string(of))
	return reconcile.Trigger{Family: family, At: at}, ok && err == nil
}
