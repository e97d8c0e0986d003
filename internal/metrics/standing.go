// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// described are metrics that are made on request, by name.
type described map[string]*prometheus.Desc

func (d described) add(subsystem, name, help string, labels ...string) {
	d[name] = prometheus.NewDesc(prometheus.BuildFQName("", subsystem, name), help, labels, nil)
}

// Describe names all metrics.
func (d described) Describe(to chan<- *prometheus.Desc) {
	for _, one := range d {
		to <- one
	}
}

func (d described) gauge(to chan<- prometheus.Metric, name string, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d[name], prometheus.GaugeValue, value, labels...)
}

func (d described) counter(to chan<- prometheus.Metric, name string, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d[name], prometheus.CounterValue, value, labels...)
}

const noLocalTotal = "sync_proxy_rules_no_local_endpoints_total"

// standing collects the present state on request.
type standing struct {
	described
	metrics *Metrics
}

func newStanding(m *Metrics) standing {
	d := described{}
	d.add(proxySubsystem, noLocalTotal, "Number of services with a Local traffic policy and no endpoints", "traffic_policy", byFamily)
	for name, of := range map[string]struct{ help, label string }{
		"wished_rows":                        {"Rows that the kernel should have, by table.", "table"},
		"kernel_rows":                        {"Rows of these and of those to remove that the kernel has, by its own answers.", "table"},
		"refused_rows":                       {"Rows that the kernel refuses and that are retried.", "table"},
		"services_with_notes":                {"Services with a part that is left out, by the reason.", "reason"},
		"oldest_unprogrammed_change_seconds": {"Age of the oldest change that waits or was refused; 0: all changes are in the kernel.", byFamily},
		"source":                             {"1 for the source of the objects that are served: live, snapshot, none.", "source"},
		"events_total":                       {"Events for the API, by result: written, known (another node was first), refused, dropped (for lack of room).", "result"},
	} {
		d.add(ownSubsystem, name, of.help, of.label)
	}
	for name, help := range map[string]string{
		"draining_real_servers": "Real servers that are no longer desired and still have connections.",
		"conflicts":             "Virtual servers that more than one Service claims; the oldest Service gets each.",
		"services":              "Services that the source reported, whether or not they are meant for this proxy.",
		"displaced_jumps":       "Jumps to our chains that other programs keep behind their own rules, which may take the traffic of Services.",
		"api_connected":         "1 while the API server answers.",
		"snapshot_age_seconds":  "How long ago the content of the snapshot was complete. Absent without a snapshot.",
		"snapshot_failing":      "1 while the snapshot cannot be read or written.",
	} {
		d.add(ownSubsystem, name, help)
	}
	return standing{d, m}
}

// Collect returns the metrics as they are now.
func (s standing) Collect(to chan<- prometheus.Metric) {
	s.proxy(to)
	s.services(to)
	if s.metrics.options.Status != nil {
		s.status(to, s.metrics.options.Status())
	}
}

func (s standing) proxy(to chan<- prometheus.Metric) {
	m := s.metrics
	m.mutex.Lock()
	b, waiting := m.balance, m.waiting
	m.mutex.Unlock()
	for i, rows := range b.Rows {
		table := reconcile.Table(i).String()
		s.gauge(to, "wished_rows", float64(rows.Desired), table)
		s.gauge(to, "kernel_rows", float64(rows.Present), table)
		s.gauge(to, "refused_rows", float64(rows.Refused), table)
	}
	s.gauge(to, "draining_real_servers", float64(b.Draining))
	s.gauge(to, "conflicts", float64(b.Contested))
	s.gauge(to, "services", float64(max(0, b.Owners-1))) // without the base
	s.gauge(to, "displaced_jumps", float64(len(b.Displaced)))
	now := time.Now()
	for _, f := range m.options.Families {
		oldest := max(age(waiting[index(f)], now), age(b.Of(f).Since, now))
		s.gauge(to, "oldest_unprogrammed_change_seconds", oldest, f.String())
	}
}

// age is how many seconds ago something began. The zero time is never.
func age(began, now time.Time) float64 {
	if began.IsZero() {
		return 0
	}
	return max(0, now.Sub(began).Seconds())
}

func (s standing) services(to chan<- prometheus.Metric) {
	m := s.metrics
	m.mutex.Lock()
	reasons, noLocal := map[state.Reason]int{}, [2]lacking{}
	for _, known := range m.services {
		for _, r := range known.reasons {
			reasons[r]++
		}
		for i, l := range known.noLocal {
			noLocal[i].internal += l.internal
			noLocal[i].external += l.external
		}
	}
	m.mutex.Unlock()
	for _, r := range state.Reasons() {
		s.gauge(to, "services_with_notes", float64(reasons[r]), r.String())
	}
	for _, f := range m.options.Families {
		s.gauge(to, noLocalTotal, float64(noLocal[index(f)].internal), "internal", f.String())
		s.gauge(to, noLocalTotal, float64(noLocal[index(f)].external), "external", f.String())
	}
}

func (s standing) status(to chan<- prometheus.Metric, status Status) {
	for _, source := range []string{"none", "snapshot", "live"} {
		s.gauge(to, "source", one(status.Source == source), source)
	}
	s.gauge(to, "api_connected", one(status.Connected))
	s.gauge(to, "snapshot_failing", one(status.SnapshotFailing))
	if !status.SnapshotWritten.IsZero() {
		s.gauge(to, "snapshot_age_seconds", age(status.SnapshotWritten, time.Now()))
	}
	for result, n := range map[string]int{
		"written": status.Events.Written, "known": status.Events.Known, "refused": status.Events.Refused, "dropped": status.Events.Dropped,
	} {
		s.counter(to, "events_total", float64(n), result)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
