// SPDX-License-Identifier: Apache-2.0

// Package metrics measures the proxy for Prometheus, in a registry of its own.
//
// Names that begin with kubeproxy_ are those of kube-proxy's IPVS mode, with its types, labels and buckets,
// so that dashboards and alerts keep working. Here they mean:
//
//   - sync_proxy_rules_duration_seconds: one round of the loop that wrote or listed something, until nothing was
//     left to do. A round costs what changed, so most are short.
//   - sync_proxy_rules_last_queued_timestamp_seconds: the last time that a change affected rows of the family.
//   - sync_proxy_rules_last_timestamp_seconds: the last time that no row of the family was pending or refused
//     (without sysctls).
//   - sync_proxy_rules_{service,endpoint}_changes_{total,pending}: reported changes of Services, and added,
//     changed and removed EndpointSlices; pending ones were not tried yet. Not per family.
//   - network_programming_duration_seconds: from the time in the EndpointSlice's annotation until all rows of the
//     Service are written.
//   - sync_proxy_rules_no_local_endpoints_total: ports of Services that have no endpoints on this node, by their
//     traffic policy.
//   - sync_proxy_rules_iptables_restore_failures_total: writes of which iptables refused a chain or a jump.
//   - conntrack_reconciler_*: the flushing of stale flows. Only flows that are known to be stale are visited;
//     kube-proxy visits all.
//   - proxy_healthz_total, proxy_livez_total: answers by code.
//
// Names that begin with kubeipvs_ are ours; their help describes them. The kernel's own counters are read on
// request, over a connection of their own (Loads).
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

	// Traffic is the maximum number of Services whose traffic is counted one by one. 0: none.
	Traffic int
	// Loads reads the kernel's counters. nil: no traffic is counted.
	Loads Loads

	// Lasting counts across reconfigurations. nil: nothing does.
	Lasting *Lasting

	// Status reports the source of the objects. Many goroutines call it. nil: it is not known.
	Status func() Status
}

// Status is the source of the objects.
type Status struct {
	Source          string    // "none", "snapshot" or "live"
	Connected       bool      // to an API server
	SnapshotWritten time.Time // when the snapshot's content was complete; zero: there is none
	SnapshotFailing bool      // the last read or write failed
	Events          Events
}

// Events counts events for the API by result.
type Events struct {
	Written int // by us
	Known   int // another node was first
	Refused int // by the API server
	Dropped int // for lack of room
}

// Metrics observes a reconcile.Loop. Many goroutines read it.
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
	families reconcile.Families
}

// New returns Metrics with all series that exist without Services, at zero.
func New(o Options) *Metrics {
	registry, families := prometheus.NewPedanticRegistry(), names(o.Families)
	m := &Metrics{
		options:  o,
		registry: registry,
		proxy:    newProxyMetrics(registry, families),
		own:      newOwnMetrics(registry, o, families),
		services: map[desired.Owner]service{},
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newStanding(m))
	if o.Lasting != nil {
		registry.MustRegister(o.Lasting.results, o.Lasting.duration, o.Lasting.reloads)
	}
	if o.Traffic > 0 && o.Loads != nil {
		m.traffic = newTraffic(o.Loads, o.Traffic)
		registry.MustRegister(m.traffic)
	}
	return m
}

const (
	// inFlight is how many requests may run at once: each answer is made in memory.
	inFlight = 4
	// patience is how long one answer may take.
	patience = 20 * time.Second
)

// Page serves /metrics. What cannot be collected is left out and counted.
func (m *Metrics) Page() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: inFlight,
		Timeout:             patience,
	})
}

// Gatherer returns what the page shows.
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
