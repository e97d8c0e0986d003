// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"net/url"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	client "k8s.io/client-go/tools/metrics"

	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	proxySubsystem = "kubeproxy" // metrics with kube-proxy's names
	ownSubsystem   = "kubeipvs"
	byFamily       = "ip_family"
)

// factory makes and registers metrics of one subsystem. Series with known labels begin at zero.
type factory struct {
	promauto.Factory
	subsystem string
}

func (f factory) counters(name, help, label string, values ...string) *prometheus.CounterVec {
	v := f.NewCounterVec(prometheus.CounterOpts{Subsystem: f.subsystem, Name: name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return v
}

func (f factory) counter(name, help string) prometheus.Counter {
	return f.NewCounter(prometheus.CounterOpts{Subsystem: f.subsystem, Name: name, Help: help})
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return f.NewGauge(prometheus.GaugeOpts{Subsystem: f.subsystem, Name: name, Help: help})
}

func (f factory) gauges(name, help string, families []string) *prometheus.GaugeVec {
	v := f.NewGaugeVec(prometheus.GaugeOpts{Subsystem: f.subsystem, Name: name, Help: help}, []string{byFamily})
	for _, family := range families {
		v.WithLabelValues(family)
	}
	return v
}

func (f factory) histograms(name, help string, buckets []float64, families []string) *prometheus.HistogramVec {
	o := prometheus.HistogramOpts{Subsystem: f.subsystem, Name: name, Help: help, Buckets: buckets}
	v := f.NewHistogramVec(o, []string{byFamily})
	for _, family := range families {
		v.WithLabelValues(family)
	}
	return v
}

func milliseconds() []float64 { return prometheus.ExponentialBuckets(0.001, 2, 15) }

// programmingBuckets are kube-proxy's, up to five minutes.
func programmingBuckets() []float64 {
	b := []float64{0.25, 0.5}
	b = append(b, prometheus.LinearBuckets(1, 1, 59)...)
	b = append(b, prometheus.LinearBuckets(60, 5, 12)...)
	return append(b, prometheus.LinearBuckets(120, 30, 7)...)
}

// proxyMetrics are kube-proxy's metrics.
type proxyMetrics struct {
	syncDuration     *prometheus.HistogramVec
	lastQueued       *prometheus.GaugeVec
	lastSynced       *prometheus.GaugeVec
	endpointsPending prometheus.Gauge
	endpointsTotal   prometheus.Counter
	servicesPending  prometheus.Gauge
	servicesTotal    prometheus.Counter
	healthz          *prometheus.CounterVec
	livez            *prometheus.CounterVec
	programming      *prometheus.HistogramVec
	restoreFailures  *prometheus.CounterVec
	flushDuration    *prometheus.HistogramVec
	flushedEntries   *prometheus.CounterVec
}

func newProxyMetrics(r prometheus.Registerer, families []string) proxyMetrics {
	f := factory{promauto.With(r), proxySubsystem}
	return proxyMetrics{
		syncDuration:     f.histograms("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", milliseconds(), families),
		lastQueued:       f.gauges("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", families),
		lastSynced:       f.gauges("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", families),
		endpointsPending: f.gauge("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes"),
		endpointsTotal:   f.counter("sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes"),
		servicesPending:  f.gauge("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes"),
		servicesTotal:    f.counter("sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes"),
		healthz:          f.counters("proxy_healthz_total", "Cumulative proxy healthz HTTP status", "code", "200", "503"),
		livez:            f.counters("proxy_livez_total", "Cumulative proxy livez HTTP status", "code", "200", "503"),
		programming:      f.histograms("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", programmingBuckets(), families),
		restoreFailures:  f.counters("sync_proxy_rules_iptables_restore_failures_total", "Cumulative proxy iptables restore failures", byFamily, families...),
		flushDuration:    f.histograms("conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", milliseconds(), families),
		flushedEntries:   f.counters("conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by conntrack reconciler", byFamily, families...),
	}
}

// ownMetrics are our metrics that are counted as things happen. Others are collected on request (standing, traffic).
type ownMetrics struct {
	operations     *prometheus.CounterVec
	refusals       *prometheus.CounterVec
	drift          *prometheus.CounterVec
	writes         *prometheus.CounterVec
	audits         *prometheus.CounterVec
	auditDuration  prometheus.Histogram
	auditTime      prometheus.Gauge
	changeDuration *prometheus.HistogramVec
}

func newOwnMetrics(r prometheus.Registerer, o Options, families []string) ownMetrics {
	f := factory{promauto.With(r), ownSubsystem}
	var tables []string
	for t := range state.Tables {
		tables = append(tables, t.String())
	}
	var causes []string
	for _, c := range []reconcile.Cause{reconcile.CauseStart, reconcile.CauseChange, reconcile.CauseAudit, reconcile.CauseTime} {
		causes = append(causes, string(c))
	}
	m := ownMetrics{
		operations: f.NewCounterVec(prometheus.CounterOpts{Subsystem: ownSubsystem, Name: "operations_total",
			Help: "Rows written to the kernel, by table and verb (add, update, remove)."}, []string{"table", "verb"}),
		refusals: f.counters("operation_errors_total", "Rows of these that the kernel refused, counted at each try.", "table", tables...),
		drift:    f.counters("drift_repaired_total", "Rows that differed in an audit from what was last written, and were repaired.", "table", tables...),
		writes:   f.counters("writes_total", "Batches of rows that were written, by cause (start, change, audit, time).", "cause", causes...),
		audits: f.counters("audits_total", "Comparisons of all tables with the desired rows, by result: complete, or incomplete if a table could not be listed.",
			"result", "complete", "incomplete"),
		auditDuration: f.NewHistogram(prometheus.HistogramOpts{
			Subsystem: ownSubsystem, Name: "audit_duration_seconds", Help: "How long it took to list all tables.", Buckets: milliseconds(),
		}),
		auditTime:      f.gauge("last_audit_timestamp_seconds", "When all tables were last listed in full."),
		changeDuration: f.histograms("change_duration_seconds", "From the notification of a change until its rows were in the kernel.", milliseconds(), families),
	}
	for _, table := range tables {
		for _, verb := range verbs() {
			m.operations.WithLabelValues(table, verb)
		}
	}
	f.NewGaugeVec(prometheus.GaugeOpts{Subsystem: ownSubsystem, Name: "build_info", Help: "Always 1; the labels describe the build."},
		[]string{"version", "revision", "go_version"}).WithLabelValues(o.Version, o.Revision, runtime.Version()).Set(1)
	firewall := f.NewGaugeVec(prometheus.GaugeOpts{Subsystem: ownSubsystem, Name: "firewall", Help: "1 for the firewall that holds the rules: iptables, nftables."},
		[]string{"firewall"})
	for _, w := range state.Firewalls() {
		firewall.WithLabelValues(w.String()).Set(one(w == o.Firewall))
	}
	return m
}

func verbs() [3]string { return [3]string{"add", "update", "remove"} }

func names(families []state.Family) []string {
	var list []string
	for _, f := range families {
		list = append(list, f.String())
	}
	return list
}

// Lasting counts across changes of the configuration: these changes, and requests to API servers, under the names of
// every Kubernetes component. client-go reports to one place only, so there is one Lasting.
type Lasting struct {
	results  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	reloads  *prometheus.CounterVec
}

// Begin returns a Lasting that counts client-go's requests from now on.
func Begin() *Lasting {
	r := &Lasting{
		reloads: factory{subsystem: ownSubsystem}.counters("config_reloads_total",
			"Changes of the configuration file, by result (applied, refused).", "result", "applied", "refused"),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rest_client_request_duration_seconds", Help: "Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60},
		}, []string{"verb", "host"}),
	}
	client.Register(client.RegisterOpts{RequestResult: r, RequestLatency: r})
	return r
}

// Reloaded counts a change of the configuration, which was refused if err is not nil.
func (r *Lasting) Reloaded(err error) {
	result := "applied"
	if err != nil {
		result = "refused"
	}
	r.reloads.WithLabelValues(result).Inc()
}

// Increment counts an answer.
func (r *Lasting) Increment(_ context.Context, code, method, host string) {
	r.results.WithLabelValues(code, method, host).Inc()
}

// Observe counts the time until an answer began.
func (r *Lasting) Observe(_ context.Context, verb string, u url.URL, latency time.Duration) {
	r.duration.WithLabelValues(verb, u.Host).Observe(latency.Seconds())
}
