// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"flag"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var (
	update = flag.Bool("update", false, "rewrite testdata")
	both   = []state.Family{state.IPv4, state.IPv6}
)

// full returns Metrics with everything that can be in them.
func full() *Metrics {
	lasting := Begin()
	lasting.Increment(context.Background(), "200", "GET", "api.example.com")
	lasting.Observe(context.Background(), "GET", url.URL{Host: "api.example.com"}, time.Second)
	return New(Options{
		Lasting:  lasting,
		Families: both, Version: "v1.2.3", Revision: "abc", Traffic: 10, Loads: &kernelOf{},
		Status: func() Status {
			return Status{
				Source: "live", Connected: true, SnapshotWritten: time.Now(), SnapshotFailing: true,
				Events: Events{Written: 1, Known: 2, Refused: 3, Dropped: 4},
			}
		},
	})
}

func gather(t *testing.T, m *Metrics) []*dto.MetricFamily {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// values are all series but those of the Go runtime and the process, as "name{label=value,...}" and, for histograms,
// "name_count" and "name_sum".
func values(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, f := range gather(t, m) {
		if !strings.HasPrefix(f.GetName(), "kube") {
			continue
		}
		for _, s := range f.GetMetric() {
			labels := labelsOf(s)
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				all[f.GetName()+"_count"+labels] = float64(s.GetHistogram().GetSampleCount())
				all[f.GetName()+"_sum"+labels] = s.GetHistogram().GetSampleSum()
			case dto.MetricType_COUNTER:
				all[f.GetName()+labels] = s.GetCounter().GetValue()
			default:
				all[f.GetName()+labels] = s.GetGauge().GetValue()
			}
		}
	}
	return all
}

func labelsOf(s *dto.Metric) string {
	var pairs []string
	for _, l := range s.GetLabel() {
		pairs = append(pairs, l.GetName()+"="+l.GetValue())
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// want compares some series.
func want(t *testing.T, when string, m *Metrics, want map[string]float64) {
	t.Helper()
	got := values(t, m)
	for name, v := range want {
		if g, there := got[name]; !there || math.Abs(g-v) > 1e-6 {
			t.Errorf("%s: %s is %v (there: %v), want %v", when, name, g, there, v)
		}
	}
}

// namesOf returns the names of all metrics, sorted.
func namesOf(t *testing.T, m *Metrics) []string {
	var list []string
	for _, f := range gather(t, m) {
		list = append(list, f.GetName())
	}
	slices.Sort(list)
	return list
}

// TestTheNamesAreThoseInTheList keeps a list of all metrics that there are, which tests of alert rules and dashboards
// read.
func TestTheNamesAreThoseInTheList(t *testing.T) {
	const file = "testdata/names.txt"
	got := strings.Join(namesOf(t, full()), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("go test ./internal/metrics -update rewrites the list; then look at manifests:\n%s", d)
	}
}

func TestKubeProxysMetricsAreAsItHasThem(t *testing.T) {
	exponential := []float64{0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384}
	programming := []float64{0.25, 0.5}
	for s := 1.0; s < 60; s++ {
		programming = append(programming, s)
	}
	for s := 60.0; s < 120; s += 5 {
		programming = append(programming, s)
	}
	for s := 120.0; s <= 300; s += 30 {
		programming = append(programming, s)
	}
	family := []string{"{ip_family=IPv4}", "{ip_family=IPv6}"}
	one, code := []string{""}, []string{"{code=200}", "{code=503}"}
	type metric struct {
		kind    dto.MetricType
		series  []string
		buckets []float64
	}
	const histogram, gauge, counter = dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE, dto.MetricType_COUNTER
	expected := map[string]metric{
		"kubeproxy_sync_proxy_rules_duration_seconds":                {histogram, family, exponential},
		"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds":   {gauge, family, nil},
		"kubeproxy_sync_proxy_rules_last_timestamp_seconds":          {gauge, family, nil},
		"kubeproxy_sync_proxy_rules_endpoint_changes_pending":        {gauge, one, nil},
		"kubeproxy_sync_proxy_rules_endpoint_changes_total":          {counter, one, nil},
		"kubeproxy_sync_proxy_rules_service_changes_pending":         {gauge, one, nil},
		"kubeproxy_sync_proxy_rules_service_changes_total":           {counter, one, nil},
		"kubeproxy_proxy_healthz_total":                              {counter, code, nil},
		"kubeproxy_proxy_livez_total":                                {counter, code, nil},
		"kubeproxy_network_programming_duration_seconds":             {histogram, family, programming},
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total": {counter, family, nil},
		"kubeproxy_conntrack_reconciler_sync_duration_seconds":       {histogram, family, exponential},
		"kubeproxy_conntrack_reconciler_deleted_entries_total":       {counter, family, nil},
		"kubeproxy_sync_proxy_rules_no_local_endpoints_total": {gauge, []string{
			"{ip_family=IPv4,traffic_policy=external}", "{ip_family=IPv4,traffic_policy=internal}",
			"{ip_family=IPv6,traffic_policy=external}", "{ip_family=IPv6,traffic_policy=internal}",
		}, nil},
	}
	got := map[string]metric{}
	for _, f := range gather(t, full()) {
		if !strings.HasPrefix(f.GetName(), "kubeproxy_") {
			continue
		}
		m := metric{kind: f.GetType()}
		for _, s := range f.GetMetric() {
			m.series = append(m.series, labelsOf(s))
			m.buckets = nil
			for _, b := range s.GetHistogram().GetBucket() {
				m.buckets = append(m.buckets, b.GetUpperBound())
			}
		}
		slices.Sort(m.series)
		got[f.GetName()] = m
	}
	if d := cmp.Diff(expected, got, cmp.AllowUnexported(metric{})); d != "" {
		t.Error(d)
	}
}

func TestTheRegistryIsOurOwn(t *testing.T) {
	full()
	full() // a second one would be refused if they shared one
}

func TestThePageTellsAllOfIt(t *testing.T) {
	w := httptest.NewRecorder()
	m := full()
	m.Page().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, name := range namesOf(t, m) {
		if !strings.Contains(w.Body.String(), "\n# TYPE "+name+" ") && !strings.HasPrefix(w.Body.String(), "# HELP "+name+" ") {
			t.Errorf("the page lacks %s", name)
		}
	}
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestAnswersAndReloadsAreCounted(t *testing.T) {
	m := full()
	for range 3 {
		m.Answered("healthz", 200)
	}
	m.Answered("healthz", 503)
	m.Answered("livez", 200)
	m.Answered("elsewhere", 200)
	m.options.Lasting.Reloaded(nil)
	m.options.Lasting.Reloaded(errors.New("broken"))
	m.options.Lasting.Reloaded(errors.New("broken"))
	want(t, "answers", m, map[string]float64{
		"kubeproxy_proxy_healthz_total{code=200}": 3, "kubeproxy_proxy_healthz_total{code=503}": 1,
		"kubeproxy_proxy_livez_total{code=200}": 1, "kubeproxy_proxy_livez_total{code=503}": 0,
		"kubeipvs_config_reloads_total{result=applied}": 1, "kubeipvs_config_reloads_total{result=refused}": 2,
	})
}

func TestWhereTheObjectsComeFrom(t *testing.T) {
	status := Status{Source: "snapshot", SnapshotWritten: time.Now().Add(-time.Hour)}
	m := New(Options{Families: both, Status: func() Status { return status }})
	got := values(t, m)
	if age := got["kubeipvs_snapshot_age_seconds"]; age < 3600 || age > 3700 {
		t.Errorf("a snapshot of %v seconds", age)
	}
	want(t, "from the snapshot", m, map[string]float64{
		"kubeipvs_source{source=none}": 0, "kubeipvs_source{source=snapshot}": 1, "kubeipvs_source{source=live}": 0,
		"kubeipvs_api_connected": 0, "kubeipvs_snapshot_failing": 0,
	})
	status = Status{Source: "live", Connected: true, SnapshotFailing: true}
	want(t, "from the API server", m, map[string]float64{
		"kubeipvs_source{source=none}": 0, "kubeipvs_source{source=snapshot}": 0, "kubeipvs_source{source=live}": 1,
		"kubeipvs_api_connected": 1, "kubeipvs_snapshot_failing": 1,
	})
	if _, there := values(t, m)["kubeipvs_snapshot_age_seconds"]; there {
		t.Error("there is no snapshot, but an age")
	}
	if _, there := values(t, New(Options{Families: both}))["kubeipvs_api_connected"]; there {
		t.Error("the source of the objects is not known, but it is reported")
	}
}

func TestTheFirewallIsNamed(t *testing.T) {
	for _, w := range state.Firewalls() {
		want(t, w.String(), New(Options{Families: both, Firewall: w}), map[string]float64{
			"kubeipvs_firewall{firewall=iptables}": one(w == state.OnIPTables), "kubeipvs_firewall{firewall=nftables}": one(w == state.OnNFTables),
		})
	}
}

func TestTheBuildIsNamed(t *testing.T) {
	for name := range values(t, full()) {
		if strings.HasPrefix(name, "kubeipvs_build_info{go_version=go") && strings.HasSuffix(name, ",revision=abc,version=v1.2.3}") {
			return
		}
	}
	t.Error("no series names the build")
}

func TestRequestsAndEventsAreCountedByWhatBecameOfThem(t *testing.T) {
	m := full()
	want(t, "events", m, map[string]float64{
		"kubeipvs_events_total{result=written}": 1, "kubeipvs_events_total{result=known}": 2,
		"kubeipvs_events_total{result=refused}": 3, "kubeipvs_events_total{result=dropped}": 4,
	})
	for _, f := range gather(t, m) {
		switch f.GetName() {
		case "rest_client_requests_total":
			if got := labelsOf(f.GetMetric()[0]); got != "{code=200,host=api.example.com,method=GET}" {
				t.Errorf("requests are counted by %s", got)
			}
		case "rest_client_request_duration_seconds":
			if h := f.GetMetric()[0].GetHistogram(); h.GetSampleSum() != 1 || len(h.GetBucket()) != 12 {
				t.Errorf("latencies are %v", h)
			}
		}
	}
}
