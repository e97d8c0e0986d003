// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// proxyMetrics are kube-proxy's.
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

const (
	proxySubsystem = "kubeproxy"
	byFamily       = "ip_family"
)

func newProxyMetrics(families []state.Family) proxyMetrics {
	p := proxyMetrics{
		syncDuration:     proxyHistogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", milliseconds()),
		lastQueued:       proxyGauges("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", byFamily),
		lastSynced:       proxyGauges("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", byFamily),
		endpointsPending: proxyGauge("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes"),
		endpointsTotal:   proxyCounter("sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes"),
		servicesPending:  proxyGauge("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes"),
		servicesTotal:    proxyCounter("sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes"),
		healthz:          proxyCounters("proxy_healthz_total", "Cumulative proxy healthz HTTP status", "code"),
		livez:            proxyCounters("proxy_livez_total", "Cumulative proxy livez HTTP status", "code"),
		programming:      proxyHistogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", programmingBuckets()),
		restoreFailures:  proxyCounters("sync_proxy_rules_iptables_restore_failures_total", "Cumulative proxy iptables restore failures", byFamily),
		flushDuration:    proxyHistogram("conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", milliseconds()),
		flushedEntries:   proxyCounters("conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by conntrack reconciler", byFamily),
	}
	p.prepare(families)
	return p
}

// prepare makes the series that will be there, so that their first increase is seen as one.
func (p proxyMetrics) prepare(families []state.Family) {
	for _, f := range families {
		name := f.String()
		p.syncDuration.WithLabelValues(name)
		p.lastQueued.WithLabelValues(name)
		p.lastSynced.WithLabelValues(name)
		p.programming.WithLabelValues(name)
		p.restoreFailures.WithLabelValues(name)
		p.flushDuration.WithLabelValues(name)
		p.flushedEntries.WithLabelValues(name)
	}
	for _, code := range []string{"200", "503"} {
		p.healthz.WithLabelValues(code)
		p.livez.WithLabelValues(code)
	}
}

func (p proxyMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		p.syncDuration, p.lastQueued, p.lastSynced, p.endpointsPending, p.endpointsTotal, p.servicesPending, p.servicesTotal,
		p.healthz, p.livez, p.programming, p.restoreFailures, p.flushDuration, p.flushedEntries,
	}
}

// noLocalEndpoints is told when somebody asks.
func noLocalEndpoints() *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("", proxySubsystem, "sync_proxy_rules_no_local_endpoints_total"),
		"Number of services with a Local traffic policy and no endpoints", []string{"traffic_policy", byFamily}, nil)
}

// milliseconds are buckets from 1 ms to 16 s.
func milliseconds() []float64 { return prometheus.ExponentialBuckets(0.001, 2, 15) }

// programmingBuckets are kube-proxy's, up to five minutes.
func programmingBuckets() []float64 {
	b := []float64{0.25, 0.5}
	b = append(b, prometheus.LinearBuckets(1, 1, 59)...)
	b = append(b, prometheus.LinearBuckets(60, 5, 12)...)
	return append(b, prometheus.LinearBuckets(120, 30, 7)...)
}

func proxyGauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: proxySubsystem, Name: name, Help: help})
}

func proxyGauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: proxySubsystem, Name: name, Help: help}, labels)
}

func proxyCounter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Subsystem: proxySubsystem, Name: name, Help: help})
}

func proxyCounters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: proxySubsystem, Name: name, Help: help}, labels)
}

func proxyHistogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	o := prometheus.HistogramOpts{Subsystem: proxySubsystem, Name: name, Help: help, Buckets: buckets}
	return prometheus.NewHistogramVec(o, []string{byFamily})
}
