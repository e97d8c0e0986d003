// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// originOf says what of a Service's objects changed. Triggers that are older than
// this program would measure how long it was not there.
func originOf(before, now plan.Objects, began time.Time) reconcile.Origin {
	o := reconcile.Origin{Queued: time.Now()}
	if before.Service != now.Service {
		o.Services = 1
	}
	known := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range before.Slices {
		known[s.Name] = s
	}
	for _, s := range now.Slices {
		old := known[s.Name]
		delete(known, s.Name)
		if old == s {
			continue
		}
		o.Slices++
		if old != nil && cluster.SameSlice(old, s) {
			continue
		}
		if t, ok := triggerOf(s); ok && t.At.After(began) {
			o.Triggers = append(o.Triggers, t)
		}
	}
	o.Slices += len(known)
	o.Anew = len(known) > 0 // what a slice tells that is gone is not when it went
	return o
}

// triggerOf is what the slice itself says of the change that it came by.
func triggerOf(s *discoveryv1.EndpointSlice) (reconcile.Trigger, bool) {
	family, err := state.ParseFamily(string(s.AddressType))
	if err != nil {
		return reconcile.Trigger{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	return reconcile.Trigger{Family: family, At: at}, err == nil
}
