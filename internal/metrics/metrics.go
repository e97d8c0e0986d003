// SPDX-License-Identifier: Apache-2.0

// Package metrics measures the proxy for Prometheus, in a registry of its own.
//
// Names that begin with kubeproxy_ are those of kube-proxy's IPVS mode, with its types, labels and buckets, so that
// dashboards and alerts keep working. Here they mean:
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
//   - sync_proxy_rules_iptables_restore_failures_total: writes of which the firewall, iptables or nftables, refused a
//     chain or a jump.
//   - conntrack_reconciler_*: the flushing of stale flows. Only flows that are known to be stale are visited;
//     kube-proxy visits all.
//   - proxy_healthz_total, proxy_livez_total: answers by code.
//
// Names that begin with kubeipvs_ are ours; their help describes them. The kernel's own counters are read on request,
// over a connection of their own (Loads).
package metrics

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Options say what is measured.
type Options struct {
	Families          []state.Family
	Firewall          state.Firewall // the one that holds the rules
	Version, Revision string         // of the build
	Loads             Loads          // reads the kernel's counters; nil: no traffic is counted
	Traffic           int            // maximum number of Services whose traffic is counted one by one; 0: none
	Lasting           *Lasting       // counts across reconfigurations; may be nil
	Status            func() Status  // the source of the objects, for many goroutines; nil: it is not known
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
	families state.Families
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

// Page serves /metrics. What cannot be collected is left out and counted.
func (m *Metrics) Page() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, // each answer is made in memory
		Timeout:             20 * time.Second,
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

// service is what is counted of one Service.
type service struct {
	reasons []state.Reason // why parts of it are left out, each once
	noLocal [2]lacking     // IPv4, IPv6
}

// lacking counts the ports without local endpoints, for traffic policy Local.
type lacking struct{ internal, external int }

func serviceOf(f state.Fragment) service {
	var s service
	for _, n := range f.Notes {
		if !slices.Contains(s.reasons, n.Reason) {
			s.reasons = append(s.reasons, n.Reason)
		}
	}
	for i, family := range []state.Family{state.IPv4, state.IPv6} {
		s.noLocal[i].internal, s.noLocal[i].external = plan.NoLocal(f, family)
	}
	return s
}

func (s service) plain() bool { return len(s.reasons) == 0 && s.noLocal == [2]lacking{} }

// Received counts a change and notes the new state of its Service.
func (m *Metrics) Received(c reconcile.Change) {
	switch e := c.Event.(type) {
	case reconcile.Upsert:
		m.count(e.Origin)
		m.know(e.Owner, serviceOf(e.Fragment))
	case reconcile.Delete:
		m.count(e.Origin)
		m.know(e.Owner, service{})
	}
	if m.traffic != nil {
		m.traffic.own(c.Owners)
	}
	if c.Due {
		m.wait(c)
	}
}

func (m *Metrics) count(o reconcile.Origin) {
	m.proxy.servicesTotal.Add(float64(o.Services))
	m.proxy.servicesPending.Add(float64(o.Services))
	m.proxy.endpointsTotal.Add(float64(o.Slices))
	m.proxy.endpointsPending.Add(float64(o.Slices))
}

// know keeps only Services with something to report.
func (m *Metrics) know(o desired.Owner, s service) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if s.plain() {
		delete(m.services, o)
		return
	}
	m.services[o] = s
}

func (m *Metrics) wait(c reconcile.Change) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, f := range m.options.Families {
		if !c.Families.Has(f) {
			continue
		}
		m.proxy.lastQueued.WithLabelValues(f.String()).Set(seconds(c.At))
		if w := &m.waiting[index(f)]; w.IsZero() || c.Queued.Before(*w) {
			*w = c.Queued
		}
	}
}

// Acted counts what was written, listed and flushed.
func (m *Metrics) Acted(a reconcile.Act) {
	m.mutex.Lock()
	if m.round.began.IsZero() {
		m.round.began = a.Began
	}
	m.round.families |= a.Families
	m.mutex.Unlock()
	if a.Work.Audit {
		m.audited(a)
		return
	}
	m.wrote(a)
	m.flushed(a)
}

func (m *Metrics) audited(a reconcile.Act) {
	m.own.auditDuration.Observe(a.Took.Seconds())
	if a.Outcome.ObserveErr != nil {
		m.own.audits.WithLabelValues("incomplete").Inc()
	} else {
		m.own.audits.WithLabelValues("complete").Inc()
		m.own.auditTime.Set(seconds(a.Began.Add(a.Took)))
	}
	for t, rows := range a.Drift {
		m.own.drift.WithLabelValues(state.Table(t).String()).Add(float64(rows))
	}
}

func (m *Metrics) wrote(a reconcile.Act) {
	if a.Work.Delta.Len() == 0 {
		return
	}
	m.own.writes.WithLabelValues(string(a.Cause)).Inc()
	verbs, refused := verbs(), a.Outcome.Results.Refused()
	for i, c := range a.Work.Delta.Counts() {
		if c.Sum() == 0 {
			continue
		}
		table := state.Table(i).String()
		for v, rows := range [3]int{c.Add, c.Update, c.Remove} {
			m.own.operations.WithLabelValues(table, verbs[v]).Add(float64(rows))
		}
		m.own.refusals.WithLabelValues(table).Add(float64(refused[i]))
	}
	for _, f := range m.options.Families {
		if a.RulesRefused().Has(f) {
			m.proxy.restoreFailures.WithLabelValues(f.String()).Inc()
		}
	}
}

func (m *Metrics) flushed(a reconcile.Act) {
	for _, f := range m.options.Families {
		if done := a.Outcome.Flushed[index(f)]; done.Took > 0 {
			m.proxy.flushDuration.WithLabelValues(f.String()).Observe(done.Took.Seconds())
			m.proxy.flushedEntries.WithLabelValues(f.String()).Add(float64(done.Entries))
		}
	}
}

// Settled notes how far the kernel is from the desired rows, and measures the changes that arrived.
func (m *Metrics) Settled(b reconcile.Balance) {
	m.proxy.servicesPending.Set(0)
	m.proxy.endpointsPending.Set(0)
	for _, p := range b.Programmed {
		m.arrived(p, b.At)
	}
	b.Programmed = nil // not used later

	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, f := range m.options.Families {
		name := f.String()
		if m.round.families.Has(f) {
			m.proxy.syncDuration.WithLabelValues(name).Observe(b.At.Sub(m.round.began).Seconds())
		}
		if b.Of(f).Refused == 0 {
			m.proxy.lastSynced.WithLabelValues(name).Set(seconds(b.At))
		}
	}
	m.round, m.waiting, m.balance = round{}, [2]time.Time{}, b
}

// arrived measures a change. Clocks of two machines may differ, so negative durations count as zero.
func (m *Metrics) arrived(p reconcile.Programmed, at time.Time) {
	for _, t := range p.Origin.Triggers {
		m.proxy.programming.WithLabelValues(t.Family.String()).Observe(max(0, at.Sub(t.At).Seconds()))
	}
	if p.Origin.Queued.IsZero() {
		return
	}
	for _, f := range m.options.Families {
		if p.Families.Has(f) {
			m.own.changeDuration.WithLabelValues(f.String()).Observe(at.Sub(p.Origin.Queued).Seconds())
		}
	}
}

func index(f state.Family) int {
	if f == state.IPv4 {
		return 0
	}
	return 1
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
