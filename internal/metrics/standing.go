// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// standing collects what is known when somebody asks.
type standing struct {
	metrics *Metrics

	wished, there, refused       *prometheus.Desc
	draining, conflicts, owners  *prometheus.Desc
	displaced                    *prometheus.Desc
	notes, noLocal, oldest       *prometheus.Desc
	source, connected            *prometheus.Desc
	snapshotAge, snapshotFailing *prometheus.Desc
	events                       *prometheus.Desc
}

func newStanding(m *Metrics) standing {
	return standing{
		metrics: m,
		wished:  described("wished_rows", "Rows that the kernel should have, by table.", "table"),
		there:   described("kernel_rows", "Rows of these and of those to remove that the kernel has by its own answers.", "table"),
		refused: described("refused_rows", "Rows that the kernel refuses and that are tried again and again.", "table"),

		draining:  described("draining_real_servers", "Real servers that are no longer wanted and still have connections."),
		conflicts: described("conflicts", "Virtual servers that more than one Service claims; the oldest Service has each."),
		owners:    described("services", "Services that the source told, whether they are meant for this proxy or not."),
		notes:     described("services_with_notes", "Services with a part that is left out, by the reason.", "reason"),
		noLocal:   noLocalEndpoints(),
		displaced: described("displaced_jumps",
			"Jumps to chains of ours that other programs keep behind rules of theirs, which may take Services' traffic."),
		oldest: described("oldest_unprogrammed_change_seconds",
			"How long the oldest change waits, or has been refused, that is not in the kernel; 0: all are.", byFamily),

		source:          described("source", "1 for where the objects come from that are served: live, snapshot, none.", "source"),
		connected:       described("api_connected", "1 while an API server is followed."),
		snapshotAge:     described("snapshot_age_seconds", "How long ago what is in the snapshot was all there was. Not there without a snapshot."),
		snapshotFailing: described("snapshot_failing", "1 while the snapshot can't be read or written."),
		events: described("events_total",
			"Events for the API, by what became of them: written, known (another node was first), refused, dropped (for want of room).", "result"),
	}
}

// Describe names all metrics.
func (s standing) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.wished, s.there, s.refused, s.draining, s.conflicts, s.owners, s.displaced, s.notes, s.noLocal, s.oldest,
		s.source, s.connected, s.snapshotAge, s.snapshotFailing, s.events,
	} {
		to <- d
	}
}

// Collect tells them as they are now.
func (s standing) Collect(to chan<- prometheus.Metric) {
	s.proxy(to)
	s.services(to)
	if s.metrics.options.Status != nil {
		s.status(to)
	}
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (s standing) proxy(to chan<- prometheus.Metric) {
	m := s.metrics
	m.mutex.Lock()
	b, waiting := m.balance, m.waiting
	m.mutex.Unlock()
	for i, rows := range b.Rows {
		table := state.Table(i).String()
		gauge(to, s.wished, float64(rows.Desired), table)
		gauge(to, s.there, float64(rows.Present), table)
		gauge(to, s.refused, float64(rows.Refused), table)
	}
	gauge(to, s.draining, float64(b.Draining))
	gauge(to, s.conflicts, float64(b.Contested))
	gauge(to, s.owners, float64(max(0, b.Owners-1))) // the base is none
	gauge(to, s.displaced, float64(len(b.Displaced)))
	now := time.Now()
	for _, f := range m.options.Families {
		gauge(to, s.oldest, max(age(waiting[index(f)], now), age(b.Of(f).Since, now)), f.String())
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
		gauge(to, s.notes, float64(reasons[r]), r.String())
	}
	for _, f := range m.options.Families {
		gauge(to, s.noLocal, float64(noLocal[index(f)].internal), "internal", f.String())
		gauge(to, s.noLocal, float64(noLocal[index(f)].external), "external", f.String())
	}
}

func (s standing) status(to chan<- prometheus.Metric) {
	status := s.metrics.options.Status()
	for _, source := range []string{"none", "snapshot", "live"} {
		gauge(to, s.source, one(status.Source == source), source)
	}
	gauge(to, s.connected, one(status.Connected))
	gauge(to, s.snapshotFailing, one(status.SnapshotFailing))
	for result, n := range map[string]int{
		"written": status.Events.Written, "known": status.Events.Known, "refused": status.Events.Refused, "dropped": status.Events.Dropped,
	} {
		to <- prometheus.MustNewConstMetric(s.events, prometheus.CounterValue, float64(n), result)
	}
	if !status.SnapshotWritten.IsZero() {
		gauge(to, s.snapshotAge, age(status.SnapshotWritten, time.Now()))
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
