// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
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
		table := state.Table(i).String()
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

// Loads reads the counters of virtual servers.
type Loads interface {
	// Loads returns the load of every virtual server, ours or not. One goroutine at a time calls it.
	Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error)
}

const (
	// fresh is for how long one reading is used.
	fresh = time.Second
	// readTime bounds one reading.
	readTime = 5 * time.Second
	// others is the sum of all Services that are not named. Without namespace it is no Service's name.
	others = "other"
)

// traffic collects the traffic of Services. The kernel counts by virtual server, from zero when it is made anew. A
// Service's counter is the sum of the increases of its virtual servers, so it never decreases. What a virtual server
// counted between the last reading and its removal is lost.
//
// The first Services that are seen are named, sorted by name if several are new; a name becomes free when its Service
// is gone. So series come and go with Services, not with their traffic.
type traffic struct {
	described
	loads Loads
	most  int

	ownersMutex sync.Mutex // never held while the kernel is read: the loop waits for it
	owners      map[state.VirtualServerKey]desired.Owner

	mutex    sync.Mutex
	read     time.Time
	seen     map[state.VirtualServerKey]state.Counters
	named    map[desired.Owner]*total
	rest     total
	failures float64
}

type total struct {
	counted state.Counters
	now     state.Connections
}

func newTraffic(l Loads, most int) *traffic {
	d := described{}
	d.add(ownSubsystem, "service_connections_total", "Connections to the Service through this node.", "namespace", "service")
	d.add(ownSubsystem, "service_packets_total", "Packets of the Service through this node, to endpoints (in) and from them (out).", "namespace", "service", "direction")
	d.add(ownSubsystem, "service_bytes_total", "Bytes of the Service through this node, to endpoints (in) and from them (out).", "namespace", "service", "direction")
	d.add(ownSubsystem, "service_connections", "Present connections to the Service: active ones (TCP: established), and others.", "namespace", "service", "state")
	d.add(ownSubsystem, "traffic_read_errors_total", "Readings of the kernel's counters that failed.")
	return &traffic{described: d, loads: l, most: most, owners: map[state.VirtualServerKey]desired.Owner{}, named: map[desired.Owner]*total{}}
}

func (t *traffic) own(changed []reconcile.ServerOwner) {
	if len(changed) == 0 {
		return
	}
	t.ownersMutex.Lock()
	defer t.ownersMutex.Unlock()
	for _, c := range changed {
		if c.Owned {
			t.owners[c.Key] = c.Owner
		} else {
			delete(t.owners, c.Key)
		}
	}
}

// Collect reads the kernel, unless that was just done, and returns the sums.
func (t *traffic) Collect(to chan<- prometheus.Metric) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if now := time.Now(); t.read.IsZero() || now.Sub(t.read) >= fresh {
		t.refresh()
		t.read = time.Now()
	}
	for o, sum := range t.named {
		t.report(to, *sum, o.Namespace, o.Name)
	}
	t.report(to, t.rest, "", others)
	t.counter(to, "traffic_read_errors_total", t.failures)
}

func (t *traffic) report(to chan<- prometheus.Metric, sum total, namespace, name string) {
	t.counter(to, "service_connections_total", float64(sum.counted.Connections), namespace, name)
	t.counter(to, "service_packets_total", float64(sum.counted.PacketsIn), namespace, name, "in")
	t.counter(to, "service_packets_total", float64(sum.counted.PacketsOut), namespace, name, "out")
	t.counter(to, "service_bytes_total", float64(sum.counted.BytesIn), namespace, name, "in")
	t.counter(to, "service_bytes_total", float64(sum.counted.BytesOut), namespace, name, "out")
	t.gauge(to, "service_connections", float64(sum.now.Active), namespace, name, "active")
	t.gauge(to, "service_connections", float64(sum.now.Inactive), namespace, name, "inactive")
}

// refresh adds what was counted since the last time. If the kernel cannot be read, nothing changes.
func (t *traffic) refresh() {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	loads, err := t.loads.Loads(ctx)
	if err != nil {
		t.failures++
		return
	}
	t.ownersMutex.Lock()
	defer t.ownersMutex.Unlock()
	t.choose()
	t.rest.now = state.Connections{}
	for _, sum := range t.named {
		sum.now = state.Connections{}
	}
	seen := make(map[state.VirtualServerKey]state.Counters, len(loads))
	for k, l := range loads {
		seen[k] = l.Counters
		o, ours := t.owners[k]
		if !ours {
			continue
		}
		sum := t.named[o]
		if sum == nil {
			sum = &t.rest
		}
		sum.add(more(t.seen[k], l.Counters), l.Connections)
	}
	t.seen = seen
}

func (t *traffic) choose() {
	present := map[desired.Owner]bool{}
	for _, o := range t.owners {
		present[o] = true
	}
	maps.DeleteFunc(t.named, func(o desired.Owner, _ *total) bool { return !present[o] })
	if len(t.named) == t.most {
		return
	}
	var unnamed []desired.Owner
	for o := range present {
		if t.named[o] == nil {
			unnamed = append(unnamed, o)
		}
	}
	slices.SortFunc(unnamed, func(a, b desired.Owner) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, o := range unnamed[:min(len(unnamed), t.most-len(t.named))] {
		t.named[o] = &total{}
	}
}

func (t *total) add(c state.Counters, now state.Connections) {
	sum, more := fields(&t.counted), fields(&c)
	for i := range sum {
		*sum[i] += *more[i]
	}
	t.now.Active += now.Active
	t.now.Inactive += now.Inactive
}

// more returns what was counted since before. Counters that decreased began anew.
func more(before, now state.Counters) state.Counters {
	since := now
	was, is := fields(&before), fields(&since)
	for i := range is {
		if *is[i] < *was[i] {
			return now
		}
		*is[i] -= *was[i]
	}
	return since
}

func fields(c *state.Counters) [5]*uint64 {
	return [5]*uint64{&c.Connections, &c.PacketsIn, &c.PacketsOut, &c.BytesIn, &c.BytesOut}
}
