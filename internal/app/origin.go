// SPDX-License-Identifier: Apache-2.0

package app

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// originOf returns what changed in a Service's objects. Triggers from before the program started are left
// out: they would measure how long it was not running.
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
