// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Load balancers and the kubelet ask two questions, as they ask kube-proxy:
//
// /healthz: does the kernel follow the cluster? A family is unhealthy if for longer than two sync periods
//   - a change waits that was neither written nor refused, or
//   - the loop did not check the kernel although it was due, or
//   - the kernel refuses a row that all Services need (a set, a chain, a jump, the device), or rows of more than one
//     Service in a table of which it took none since.
//
// The node stays in service if rows of one Service are refused, or a sysctl: metrics and events report that. The node
// must also be eligible: its Node object is known and will not be removed.
//
// /livez: does the loop make progress? It fails only if one round takes longer than ten sync periods, and at least five
// minutes. A restart does not help against refusals, and would only prolong a slow start.

const (
	lateRounds  = 2  // sync periods until a change is late
	stuckRounds = 10 // sync periods until the loop is stuck
	stuckLeast  = 5 * time.Minute
)

// HealthOptions configure Health.
type HealthOptions struct {
	SyncPeriod time.Duration
	Families   []state.Family
	Count      func(page string, code int) // counts answers of "healthz" and "livez"; may be nil

	// Snapshot reports whether the served objects were restored from a snapshot and not confirmed since, and its age.
	// Many goroutines call it. nil: they never are.
	Snapshot func() (age time.Duration, restored bool)
}

// Health is the proxy's health. It observes a reconcile.Loop, and many goroutines read it.
type Health struct {
	options HealthOptions
	late    time.Duration
	stuck   time.Duration

	mutex    sync.Mutex
	wake     time.Time // when the loop should act by itself; zero: only after a change
	families map[state.Family]*family
	node     *corev1.Node
}

var _ reconcile.Observer = (*Health)(nil)

type family struct {
	waiting time.Time // when the oldest change that was not tried was queued; zero: there is none
	blocked time.Time // since when changes do not get through; zero: they do
	updated time.Time // when nothing was left to write, last
}

// NewHealth returns the Health of a proxy that has not started: a healthy one, on an unknown node.
func NewHealth(o HealthOptions) *Health {
	h := &Health{
		options: o, late: lateRounds * o.SyncPeriod, stuck: max(stuckRounds*o.SyncPeriod, stuckLeast),
		families: map[state.Family]*family{},
	}
	for _, f := range o.Families {
		h.families[f] = &family{}
	}
	return h
}

// Node takes in the Node object. A deleted one stays as last seen: it was marked before.
func (h *Health) Node(n *corev1.Node) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if n != nil {
		h.node = n
	}
}

// Received notes since when a change waits.
func (h *Health) Received(c reconcile.Change) {
	if !c.Due {
		return
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for f, known := range h.families {
		if c.Families.Has(f) && (known.waiting.IsZero() || c.Queued.Before(known.waiting)) {
			known.waiting = c.Queued
		}
	}
}

// Acted does nothing: only a settled loop counts.
func (h *Health) Acted(reconcile.Act) {}

// Settled notes that all changes have been tried.
func (h *Health) Settled(b reconcile.Balance) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.wake = b.Wake
	for f, known := range h.families {
		known.waiting, known.blocked = time.Time{}, b.Of(f).Blocked
		if b.Of(f).Refused == 0 {
			known.updated = b.At
		}
	}
}

// Healthy reports whether the kernel follows the cluster in all families.
func (h *Health) Healthy() bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	now := time.Now()
	for _, f := range h.families {
		if !h.follows(f, now) {
			return false
		}
	}
	return true
}

// Live reports whether the loop makes progress.
func (h *Health) Live() bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.progresses(time.Now())
}

func (h *Health) follows(f *family, now time.Time) bool {
	return !longer(f.waiting, now, h.late) && !longer(f.blocked, now, h.late) && !longer(h.wake, now, h.late)
}

func (h *Health) progresses(now time.Time) bool {
	for _, f := range h.families {
		if longer(f.waiting, now, h.stuck) {
			return false
		}
	}
	return !longer(h.wake, now, h.stuck)
}

// longer reports whether something began at least limit ago. The zero time is never.
func longer(began, now time.Time, limit time.Duration) bool {
	return !began.IsZero() && now.Sub(began) >= limit
}

func (h *Health) eligible() bool { return h.node != nil && !cluster.Leaving(h.node) }

// body has kube-proxy's keys in kube-proxy's order, then ours.
type body struct {
	LastUpdated  time.Time         `json:"lastUpdated"`
	CurrentTime  time.Time         `json:"currentTime"`
	NodeEligible *bool             `json:"nodeEligible,omitempty"`
	Healthy      bool              `json:"healthy"`
	Status       map[string]status `json:"status,omitempty"`

	// Source and SnapshotAge are present only while the objects come from a snapshot.
	Source      string `json:"source,omitempty"`
	SnapshotAge string `json:"snapshotAge,omitempty"`
}

type status struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// Pages serves /healthz and /livez, for any method.
func (h *Health) Pages() *http.ServeMux {
	pages := http.NewServeMux()
	pages.HandleFunc("/healthz", h.healthz)
	pages.HandleFunc("/livez", h.livez)
	return pages
}

func (h *Health) healthz(w http.ResponseWriter, _ *http.Request) {
	b, eligible := h.report(true)
	b.NodeEligible = &eligible
	if h.options.Snapshot != nil {
		if age, restored := h.options.Snapshot(); restored {
			b.Source, b.SnapshotAge = "snapshot", age.Round(time.Second).String()
		}
	}
	h.answer(w, "healthz", b, b.Healthy && eligible)
}

func (h *Health) livez(w http.ResponseWriter, _ *http.Request) {
	b, _ := h.report(false)
	h.answer(w, "livez", b, b.Healthy)
}

// report returns the body of /healthz, or that of /livez, where both families have the state of the one loop.
func (h *Health) report(following bool) (b body, eligible bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	b = body{CurrentTime: time.Now(), Healthy: true, Status: map[string]status{}}
	live := h.progresses(b.CurrentTime)
	for f, known := range h.families {
		s := status{LastUpdated: known.updated, Healthy: live}
		if following {
			s.Healthy = h.follows(known, b.CurrentTime)
		}
		b.Healthy = b.Healthy && s.Healthy
		if s.LastUpdated.After(b.LastUpdated) {
			b.LastUpdated = s.LastUpdated
		}
		if !s.LastUpdated.IsZero() || !s.Healthy {
			b.Status[f.String()] = s
		}
	}
	return b, h.eligible()
}

// answer replaces a good state's time of update by the present one, as kube-proxy does for its clients.
func (h *Health) answer(w http.ResponseWriter, page string, b body, well bool) {
	code := http.StatusServiceUnavailable
	if well {
		code, b.LastUpdated = http.StatusOK, b.CurrentTime
	}
	text, err := json.Marshal(b)
	if err != nil {
		http.Error(w, fmt.Sprintf("write the answer: %v", err), http.StatusInternalServerError)
		return
	}
	if h.options.Count != nil {
		h.options.Count(page, code)
	}
	send(w, code, "application/json", text)
}
