// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const syncPeriod = 30 * time.Second

var both = []state.Family{state.IPv4, state.IPv6}

// asked is a Health and what was counted of its answers.
type asked struct {
	*Health
	t       *testing.T
	counted map[string]int
}

func start(t *testing.T, o HealthOptions) asked {
	a := asked{t: t, counted: map[string]int{}}
	o.SyncPeriod, o.Families = syncPeriod, both
	o.Count = func(page string, code int) { a.counted[fmt.Sprint(page, " ", code)]++ }
	a.Health = NewHealth(o)
	return a
}

// well is on a node that may be sent traffic.
func well(t *testing.T) asked {
	a := start(t, HealthOptions{})
	a.Node(&corev1.Node{})
	return a
}

// ask is what a page says, with how long ago for times.
func (a asked) ask(page string) string {
	a.t.Helper()
	w := httptest.NewRecorder()
	a.Pages().ServeHTTP(w, httptest.NewRequest(http.MethodPost, page, nil))
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		a.t.Errorf("headers %v", w.Header())
	}
	text := w.Body.String()
	var b body
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		a.t.Errorf("%s: %v", text, err)
	}
	times := []time.Time{b.LastUpdated, b.CurrentTime}
	for _, s := range b.Status {
		times = append(times, s.LastUpdated)
	}
	for _, at := range times {
		quoted, err := json.Marshal(at)
		if err != nil {
			a.t.Fatal(err)
		}
		ago := "never"
		if !at.IsZero() {
			ago = time.Since(at).String()
		}
		text = strings.ReplaceAll(text, string(quoted), ago)
	}
	return fmt.Sprint(w.Code, " ", text)
}

func (a asked) want(when, page, want string) {
	a.t.Helper()
	if got := a.ask(page); got != want {
		a.t.Errorf("%s: %s\n got %s\nwant %s", when, page, got, want)
	}
}

// settled is told of a loop that looks again after a while.
func (a asked) settled(ipv4, ipv6 reconcile.Trouble) {
	now := time.Now()
	a.Settled(reconcile.Balance{At: now, Wake: now.Add(syncPeriod), IPv4: ipv4, IPv6: ipv6})
}

func (a asked) took(f state.Families) {
	a.Received(reconcile.Change{Due: true, Families: f, Queued: time.Now()})
}

var none reconcile.Trouble

func TestAProxyThatHasNotBegunIsHealthyAndStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := well(t)
		a.Received(reconcile.Change{Families: state.BothFamilies, Queued: time.Now()}) // that is not due
		time.Sleep(time.Hour)
		a.want("at first", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true}`)
		a.want("at first", "/livez", `200 {"lastUpdated":0s,"currentTime":0s,"healthy":true}`)
	})
}

func TestAnIdleProxyIsHealthyAsLongAsItLooksAtTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := well(t)
		a.settled(none, none)
		for range 100 {
			time.Sleep(syncPeriod)
			a.settled(none, none)
		}
		time.Sleep(10 * time.Second)
		a.want("idle", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true,`+
			`"status":{"IPv4":{"lastUpdated":10s,"healthy":true},"IPv6":{"lastUpdated":10s,"healthy":true}}}`)
		time.Sleep(3*syncPeriod - 11*time.Second)
		a.want("overdue, but not for long", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true,`+
			`"status":{"IPv4":{"lastUpdated":1m29s,"healthy":true},"IPv6":{"lastUpdated":1m29s,"healthy":true}}}`)
		time.Sleep(time.Second)
		if a.Healthy() || !a.Live() {
			t.Errorf("overdue: healthy %v, live %v", a.Healthy(), a.Live())
		}
		time.Sleep(8*syncPeriod - time.Second)
		a.want("nearly stuck", "/livez", `200 {"lastUpdated":0s,"currentTime":0s,"healthy":true,`+
			`"status":{"IPv4":{"lastUpdated":5m29s,"healthy":true},"IPv6":{"lastUpdated":5m29s,"healthy":true}}}`)
		time.Sleep(time.Second)
		a.want("stuck", "/livez", `503 {"lastUpdated":5m30s,"currentTime":0s,"healthy":false,`+
			`"status":{"IPv4":{"lastUpdated":5m30s,"healthy":false},"IPv6":{"lastUpdated":5m30s,"healthy":false}}}`)
	})
}

func TestAFamilyWithAChangeThatWaitsTooLongIsUnhealthyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := well(t)
		a.settled(none, none)
		a.took(state.FamiliesOf(state.IPv6))
		time.Sleep(2*syncPeriod - time.Second)
		a.took(state.BothFamilies) // a younger one changes nothing for IPv6
		if !a.Healthy() {
			t.Error("unhealthy before its time")
		}
		time.Sleep(time.Second)
		a.want("late", "/healthz", `503 {"lastUpdated":1m0s,"currentTime":0s,"nodeEligible":true,"healthy":false,`+
			`"status":{"IPv4":{"lastUpdated":1m0s,"healthy":true},"IPv6":{"lastUpdated":1m0s,"healthy":false}}}`)
		a.want("late", "/livez", `200 {"lastUpdated":0s,"currentTime":0s,"healthy":true,`+
			`"status":{"IPv4":{"lastUpdated":1m0s,"healthy":true},"IPv6":{"lastUpdated":1m0s,"healthy":true}}}`)
		a.settled(none, none)
		a.want("when it is written", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true,`+
			`"status":{"IPv4":{"lastUpdated":0s,"healthy":true},"IPv6":{"lastUpdated":0s,"healthy":true}}}`)
	})
}

func TestOneRefusedRowIsNotTheNodesAndABlockedFamilyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := well(t)
		a.settled(none, none)
		since := time.Now()
		stays := func(d time.Duration, ipv4 reconcile.Trouble) {
			for range d / syncPeriod {
				time.Sleep(syncPeriod)
				a.settled(ipv4, none)
			}
		}
		stays(time.Hour, reconcile.Trouble{Refused: 1, Since: since})
		a.want("one refused row", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true,`+
			`"status":{"IPv4":{"lastUpdated":1h0m0s,"healthy":true},"IPv6":{"lastUpdated":0s,"healthy":true}}}`)
		blocked := reconcile.Trouble{Refused: 2, Since: since, Blocked: time.Now()}
		stays(syncPeriod, blocked)
		if !a.Healthy() {
			t.Error("unhealthy at once")
		}
		stays(syncPeriod, blocked)
		a.want("blocked", "/healthz", `503 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":false,`+
			`"status":{"IPv4":{"lastUpdated":1h1m0s,"healthy":false},"IPv6":{"lastUpdated":0s,"healthy":true}}}`)
		stays(time.Hour, blocked)
		if a.Healthy() || !a.Live() {
			t.Errorf("blocked for long: healthy %v, live %v", a.Healthy(), a.Live())
		}
		stays(syncPeriod, none)
		if !a.Healthy() {
			t.Error("unhealthy after all got through")
		}
	})
}

func TestANodeThatIsAboutToGoIsNotEligibleButLives(t *testing.T) {
	gone := metav1.Now()
	tainted := func(key string) *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key}}}}
	}
	for _, c := range []struct {
		name     string
		nodes    []*corev1.Node
		eligible bool
	}{
		{"unknown", nil, false},
		{"not there", []*corev1.Node{nil}, false},
		{"known", []*corev1.Node{{}}, true},
		{"with another taint", []*corev1.Node{tainted("other")}, true},
		{"about to be removed", []*corev1.Node{{}, tainted("ToBeDeletedByClusterAutoscaler")}, false},
		{"not any more", []*corev1.Node{tainted("ToBeDeletedByClusterAutoscaler"), {}}, true},
		{"being deleted", []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &gone}}}, false},
		{"gone without a word", []*corev1.Node{{}, nil}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := start(t, HealthOptions{})
			a.settled(none, none)
			for _, n := range c.nodes {
				a.Node(n)
			}
			time.Sleep(time.Second)
			code, updated := 503, "1s"
			if c.eligible {
				code, updated = 200, "0s"
			}
			a.want(c.name, "/healthz", fmt.Sprintf(`%d {"lastUpdated":%s,"currentTime":0s,"nodeEligible":%v,"healthy":true,`+
				`"status":{"IPv4":{"lastUpdated":1s,"healthy":true},"IPv6":{"lastUpdated":1s,"healthy":true}}}`, code, updated, c.eligible))
			a.want(c.name, "/livez", `200 {"lastUpdated":0s,"currentTime":0s,"healthy":true,`+
				`"status":{"IPv4":{"lastUpdated":1s,"healthy":true},"IPv6":{"lastUpdated":1s,"healthy":true}}}`)
			if want := map[string]int{fmt.Sprint("healthz ", code): 1, "livez 200": 1}; fmt.Sprint(a.counted) != fmt.Sprint(want) {
				t.Errorf("counted %v, want %v", a.counted, want)
			}
		})
	}
}

func TestTheAgeOfASnapshotIsToldWhileItIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restored := true
		a := start(t, HealthOptions{Snapshot: func() (time.Duration, bool) { return 90*time.Minute + time.Millisecond, restored }})
		a.Node(&corev1.Node{})
		a.want("from the snapshot", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true,"source":"snapshot","snapshotAge":"1h30m0s"}`)
		a.want("from the snapshot", "/livez", `200 {"lastUpdated":0s,"currentTime":0s,"healthy":true}`)
		restored = false
		a.want("from the API server", "/healthz", `200 {"lastUpdated":0s,"currentTime":0s,"nodeEligible":true,"healthy":true}`)
	})
}

func TestNothingElseIsServed(t *testing.T) {
	for _, path := range []string{"/", "/healthz/", "/readyz", "/metrics"} {
		w := httptest.NewRecorder()
		well(t).Pages().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
