// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// body has kube-proxy's keys in kube-proxy's order, and then ours.
type body struct {
	LastUpdated  time.Time         `json:"lastUpdated"`
	CurrentTime  time.Time         `json:"currentTime"`
	NodeEligible *bool             `json:"nodeEligible,omitempty"`
	Healthy      bool              `json:"healthy"`
	Status       map[string]status `json:"status,omitempty"`

	// Source and SnapshotAge are there only while what is served comes from a snapshot.
	Source      string `json:"source,omitempty"`
	SnapshotAge string `json:"snapshotAge,omitempty"`
}

type status struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// Pages are /healthz and /livez, for any method.
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

// report is the body of /healthz, or that of /livez: the one loop works for both families.
func (h *Health) report(following bool) (b body, eligible bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	b = body{CurrentTime: time.Now(), Healthy: true, Status: map[string]status{}}
	live := h.progresses(b.CurrentTime)
	for _, f := range h.options.Families {
		s := status{LastUpdated: h.of(f).updated, Healthy: live}
		if following {
			s.Healthy = h.follows(f, b.CurrentTime)
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

// answer tells, as kube-proxy does, the present time for that of the last update if all is well: those who
// compare it with theirs want it to be recent.
func (h *Health) answer(w http.ResponseWriter, page string, b body, well bool) {
	code := http.StatusServiceUnavailable
	if well {
		code, b.LastUpdated = http.StatusOK, b.CurrentTime
	}
	text, err := json.Marshal(b)
	if err != nil {
		http.Error(w, fmt.Sprintf("writing the answer: %v", err), http.StatusInternalServerError)
		return
	}
	if h.options.Count != nil {
		h.options.Count(page, code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(text) // the one who asked may have gone
}
