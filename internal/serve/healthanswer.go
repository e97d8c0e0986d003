// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

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

// answer replaces the time of the last update by the present one if all is well, as kube-proxy does: clients
// expect it to be recent.
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
