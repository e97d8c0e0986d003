// SPDX-License-Identifier: Apache-2.0

// Package metrics measures the proxy for Prometheus, in a registry of its own.
//
// Names that begin with kubeproxy_ are kube-proxy's, of its IPVS mode, with its
// types, labels and buckets: dashboards and alert rules go on working. What they
// mean here:
//
//   - sync_proxy_rules_duration_seconds: one round of the loop that wrote or
//     listed something, from its beginning until nothing was left to do. Here a
//     round costs what changed, so most are short.
//   - sync_proxy_rules_last_queued_timestamp_seconds: the last time that a change
//     wanted rows of the family changed.
//   - sync_proxy_rules_last_timestamp_seconds: the last time that no row of the
//     family was left to write or refused (sysctls do not count). While one is
//     refused, it stays.
//   - sync_proxy_rules_{service,endpoint}_changes_{total,pending}: changed
//     Services, and added, changed and removed EndpointSlices, that the source
//     told; those of them that have not been tried yet. Once, not per family.
//   - network_programming_duration_seconds: from the time in the EndpointSlice's
//     annotation until no row of the Service is left to write.
//   - sync_proxy_rules_no_local_endpoints_total: ports of Services which their
//     traffic policy leaves without endpoints on this node.
//   - sync_proxy_rules_iptables_restore_failures_total: writes of which iptables
//     refused a chain or a jump.
//   - conntrack_reconciler_*: the flushing of stale flows, of those that are known
//     to be stale; kube-proxy goes through all.
//   - proxy_healthz_total, proxy_livez_total: answers by code.
//
// Names that begin with kubeipvs_ are ours, and their help says what they mean.
//
// The package only counts. It reads the kernel's own counters when it is asked,
// over a connection that the loop does not use (Loads).
package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Options say what is measured.
type Options struct {
	Families []state.Family

	Version, Revision string // of the build

	// Traffic is of how many Services at most the traffic is counted one by one.
	// 0: of none.
	Traffic int
	// Loads reads the kernel's counters. nil: no traffic is counted.
	Loads Loads

	// Lasting is what was counted before too. nil: nothing.
	Lasting *Lasting

	// Status says where the objects come from. It is asked by many goroutines.
	// nil: nobody knows.
	Status func() Status
}

// Status is where the objects come from.
type Status struct {
	Source          string    // "none", "snapshot" or "live"
	Connected       bool      // to an API server
	SnapshotWritten time.Time // when what is in the snapshot was true; zero: there is none
	SnapshotFailing bool      // it could last not be read or written
	Events          Events
}

// Events are how many events for the API met which fate.
type Events struct {
	Written int // by us
	Known   int // another node was first
	Refused int // by the API server
	Dropped int // for want of room
}

// Metrics are told by a reconcile.Loop, and asked by many goroutines.
type Metrics struct {
	options  Options
	registry *prometheus.Registry
	proxy    proxyMetrics
	own      ownMetrics
	traffic  *traffic // nil: not counted

	mutex    sync.Mutex
	balance  reconcile.Balance
	waiting  [2]time.Time // IPv4, IPv6: the oldest change that was not tried yet; zero: none
	round    round
	services map[desired.Owner]service
}

var _ reconcile.Observer = (*Metrics)(nil)

// round is what the loop did since it was last settled.
type round struct {
	began    time.Time
	families state.Families
}

// New returns Metrics of which all that can be there without Services is there,
// at zero.
func New(o Options) *Metrics {
	m := &Metrics{
		options:  o,
		registry: prometheus.NewPedanticRegistry(),
		proxy:    newProxyMetrics(o.Families),
		own:      newOwnMetrics(o),
		services: map[desired.Owner]service{},
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.proxy.all()...)
	m.registry.MustRegister(m.own.all()...)
	m.registry.MustRegister(newStanding(m))
	if o.Lasting != nil {
		m.registry.MustRegister(o.Lasting.all()...)
	}
	if o.Traffic > 0 && o.Loads != nil {
		m.traffic = newTraffic(o.Loads, o.Traffic)
		m.registry.MustRegister(m.traffic)
	}
	return m
}

const (
	// inFlight is how many may ask at once: each answer is made in memory.
	inFlight = 4
	// patience is how long one answer may take.
	patience = 20 * time.Second
)

// Page is /metrics. What can't be collected is left out and counted, the rest is
// told.
func (m *Metrics) Page() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: inFlight,
		Timeout:             patience,
	})
}

// Gatherer is what the page tells.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Answered counts an answer of /healthz ("healthz") or /livez ("livez").
func (m *Metrics) Answered(page string, code int) {
	switch page {
	case "healthz":
		m.proxy.healthz.WithLabelValues(strconv.Itoa(code)).Inc()
	case "livez":
		m.proxy.livez.WithLabelValues(strconv.Itoa(code)).Inc()
	}
}
