// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Load balancers and the kubelet ask two questions, in the words of kube-proxy, and get two answers:
//
// /healthz: does the kernel follow the cluster? A family is unhealthy if for longer than two sync periods
//   - a change waits that has been neither written nor refused, or
//   - the loop has not looked at the kernel although it should have, or
//   - the kernel refuses a row that all Services need (a set, a chain, a jump, the device), or rows of more than one
//     Service in a table of which it took none since.
//
// A refused row of a single Service is that Service's trouble: metrics and events report it, and the node
// stays in service. So does a refused sysctl. The node must also be eligible: its Node object is known and is
// not about to go.
//
// /livez: does the loop come to an end? It fails only if one round takes longer than ten sync periods, and at
// least five minutes. A restart would not help against what the kernel refuses, and a slow start would only
// begin again.

const (
	lateRounds  = 2  // sync periods after which a change is too late
	stuckRounds = 10 // sync periods after which the loop is stuck
	stuckLeast  = 5 * time.Minute
)

// HealthOptions say what is healthy, and who is told.
type HealthOptions struct {
	SyncPeriod time.Duration
	Families   []state.Family

	// Count is told of each answer: the page ("healthz", "livez") and its code. nil: nobody is.
	Count func(page string, code int)

	// Snapshot says whether what is served was restored from a snapshot and not confirmed since, and how old
	// it is. It is asked by many goroutines. nil: it never is.
	Snapshot func() (age time.Duration, restored bool)
}

// Health is the proxy's health. It is told by a reconcile.Loop, and asked by many goroutines.
type Health struct {
	options HealthOptions
	late    time.Duration
	stuck   time.Duration

	mutex    sync.Mutex
	wake     time.Time // when the loop should act by itself; zero: not before it is told something
	families [2]family // IPv4, IPv6
	node     *corev1.Node
}

var _ reconcile.Observer = (*Health)(nil)

// family is what is known of one IP family.
type family struct {
	waiting time.Time // the oldest change that was not tried yet was queued; zero: there is none
	blocked time.Time // since when changes do not get through; zero: they do
	updated time.Time // the last time that nothing was left to write
}

// NewHealth returns the Health of a proxy that has not begun: a healthy one, on a node that is not known.
func NewHealth(o HealthOptions) *Health {
	return &Health{options: o, late: lateRounds * o.SyncPeriod, stuck: max(stuckRounds*o.SyncPeriod, stuckLeast)}
}

// Node takes in the Node object. One that is gone stays as it was last seen: who deletes it for good says so
// before.
func (h *Health) Node(n *corev1.Node) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if n != nil {
		h.node = n
	}
}

func (h *Health) of(f state.Family) *family {
	if f == state.IPv4 {
		return &h.families[0]
	}
	return &h.families[1]
}

// Received notes since when a change waits.
func (h *Health) Received(c reconcile.Change) {
	if !c.Due {
		return
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, f := range h.options.Families {
		known := h.of(f)
		if c.Families.Has(f) && (known.waiting.IsZero() || c.Queued.Before(known.waiting)) {
			known.waiting = c.Queued
		}
	}
}

// Acted is of no concern: what counts is when all is done.
func (h *Health) Acted(reconcile.Act) {}

// Settled notes that all changes have been tried.
func (h *Health) Settled(b reconcile.Balance) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.wake = b.Wake
	for _, f := range h.options.Families {
		known := h.of(f)
		known.waiting, known.blocked = time.Time{}, b.Of(f).Blocked
		if b.Of(f).Refused == 0 {
			known.updated = b.At
		}
	}
}

// Healthy says whether the kernel follows the cluster, in all families: what the load balancers of single
// Services are told too.
func (h *Health) Healthy() bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	now := time.Now()
	for _, f := range h.options.Families {
		if !h.follows(f, now) {
			return false
		}
	}
	return true
}

// Live says whether the loop comes to an end with what it does.
func (h *Health) Live() bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.progresses(time.Now())
}

func (h *Health) follows(f state.Family, now time.Time) bool {
	known := h.of(f)
	return !longer(known.waiting, now, h.late) && !longer(known.blocked, now, h.late) && !longer(h.wake, now, h.late)
}

func (h *Health) progresses(now time.Time) bool {
	for _, f := range h.options.Families {
		if longer(h.of(f).waiting, now, h.stuck) {
			return false
		}
	}
	return !longer(h.wake, now, h.stuck)
}

// longer says whether it is at least so long ago that something began. The zero time is never.
func longer(began, now time.Time, limit time.Duration) bool {
	return !began.IsZero() && now.Sub(began) >= limit
}

// eligible says whether the node is to be sent new connections.
func (h *Health) eligible() bool { return h.node != nil && !cluster.Leaving(h.node) }
