// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ownMetrics are those of ours that are counted as things happen. What only has
// to be known when somebody asks is collected then (standing, traffic).
type ownMetrics struct {
	operations     *prometheus.CounterVec
	refusals       *prometheus.CounterVec
	drift          *prometheus.CounterVec
	writes         *prometheus.CounterVec
	audits         *prometheus.CounterVec
	auditDuration  prometheus.Histogram
	auditTime      prometheus.Gauge
	changeDuration *prometheus.HistogramVec
	build          *prometheus.GaugeVec
}

const ownSubsystem = "kubeipvs"

func newOwnMetrics(o Options) ownMetrics {
	m := ownMetrics{
		operations: ownCounters("operations_total", "Rows that were written to the kernel, by table and by what happened to them (add, update, remove).", "table", "verb"),
		refusals:   ownCounters("operation_errors_total", "Rows of these that the kernel refused, each as often as it was tried.", "table"),
		drift: ownCounters("drift_repaired_total",
			"Rows that an audit found to be other than the kernel had been left with, and that were put right.", "table"),
		writes: ownCounters("writes_total", "Batches of rows that were written, by cause (start, change, audit, time).", "cause"),
		audits: ownCounters("audits_total",
			"Comparisons of all tables with the wish, by result: complete, or incomplete if a table could not be listed.", "result"),
		auditDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Subsystem: ownSubsystem, Name: "audit_duration_seconds", Help: "How long it took to list all tables.", Buckets: milliseconds(),
		}),
		auditTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Subsystem: ownSubsystem, Name: "last_audit_timestamp_seconds", Help: "When all tables were last listed in full.",
		}),
		changeDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: ownSubsystem, Name: "change_duration_seconds", Buckets: milliseconds(),
			Help: "From the time that a change was told to this program until its rows were in the kernel.",
		}, []string{byFamily}),
		build: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Subsystem: ownSubsystem, Name: "build_info", Help: "Always 1; the labels say which build this is.",
		}, []string{"version", "revision", "go_version"}),
	}
	m.prepare(o)
	return m
}

// verbs are what happens to rows.
func verbs() [3]string { return [3]string{"add", "update", "remove"} }

func (m ownMetrics) prepare(o Options) {
	for t := range state.Tables {
		for _, verb := range verbs() {
			m.operations.WithLabelValues(t.String(), verb)
		}
		m.refusals.WithLabelValues(t.String())
		m.drift.WithLabelValues(t.String())
	}
	for _, c := range []reconcile.Cause{reconcile.CauseStart, reconcile.CauseChange, reconcile.CauseAudit, reconcile.CauseTime} {
		m.writes.WithLabelValues(string(c))
	}
	for _, result := range []string{"complete", "incomplete"} {
		m.audits.WithLabelValues(result)
	}
	for _, f := range o.Families {
		m.changeDuration.WithLabelValues(f.String())
	}
	m.build.WithLabelValues(o.Version, o.Revision, runtime.Version()).Set(1)
}

func (m ownMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.operations, m.refusals, m.drift, m.writes, m.audits, m.auditDuration, m.auditTime, m.changeDuration, m.build,
	}
}

func ownCounters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: ownSubsystem, Name: name, Help: help}, labels)
}

// described is a metric that is made when somebody asks.
func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("", ownSubsystem, name), help, labels, nil)
}
