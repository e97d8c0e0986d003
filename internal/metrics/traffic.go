// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Loads reads what virtual servers are used for.
type Loads interface {
	// Loads returns the load of every virtual server in the kernel, whoever made it. It is called by one
	// goroutine at a time, never by the loop's.
	Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error)
}

const (
	// fresh is how long what was read serves everybody who asks.
	fresh = time.Second
	// readTime bounds one reading.
	readTime = 5 * time.Second
	// others names those Services together that are not named one by one. It is in no namespace, as no
	// Service can be.
	others = "other"
)

// traffic collects what goes through Services. The kernel counts by virtual server, and from zero when it is
// made anew: what is told of a Service is the sum of what its virtual servers counted more each time, and so
// never less than before. What one counted after the last reading and before it was removed is lost.
//
// The first Services that are seen are named, in the order of their names if several are new; a name is free
// again when its Service is gone. So series come and go with Services, not with who has the most traffic just
// now.
type traffic struct {
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

	connections, packets, bytes, present, failed *prometheus.Desc
}

// total is the traffic of one Service.
type total struct {
	counted state.Counters
	now     state.Connections
}

func newTraffic(l Loads, most int) *traffic {
	who := []string{"namespace", "service"}
	direction, connection := append(slices.Clone(who), "direction"), append(slices.Clone(who), "state")
	return &traffic{
		loads: l, most: most,
		owners:      map[state.VirtualServerKey]desired.Owner{},
		named:       map[desired.Owner]*total{},
		connections: described("service_connections_total", "Connections to the Service that were made through this node.", who...),
		packets:     described("service_packets_total", "Packets of the Service through this node, to endpoints (in) and from them (out).", direction...),
		bytes:       described("service_bytes_total", "Bytes of the Service through this node, to endpoints (in) and from them (out).", direction...),
		present:     described("service_connections", "Connections to the Service at present: active ones (TCP: established), and others.", connection...),
		failed:      described("traffic_read_errors_total", "Readings of the kernel's counters that failed."),
	}
}

// own takes in whose virtual servers are now.
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

// Describe names all metrics.
func (t *traffic) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.connections, t.packets, t.bytes, t.present, t.failed} {
		to <- d
	}
}

// Collect reads the kernel, unless somebody has just done so, and tells what was added up.
func (t *traffic) Collect(to chan<- prometheus.Metric) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if now := time.Now(); t.read.IsZero() || now.Sub(t.read) >= fresh {
		t.refresh()
		t.read = time.Now()
	}
	for o, sum := range t.named {
		t.tell(to, *sum, o.Namespace, o.Name)
	}
	t.tell(to, t.rest, "", others)
	to <- prometheus.MustNewConstMetric(t.failed, prometheus.CounterValue, t.failures)
}

func (t *traffic) tell(to chan<- prometheus.Metric, sum total, namespace, name string) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value uint64, more ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(value), append([]string{namespace, name}, more...)...)
	}
	send(t.connections, prometheus.CounterValue, sum.counted.Connections)
	send(t.packets, prometheus.CounterValue, sum.counted.PacketsIn, "in")
	send(t.packets, prometheus.CounterValue, sum.counted.PacketsOut, "out")
	send(t.bytes, prometheus.CounterValue, sum.counted.BytesIn, "in")
	send(t.bytes, prometheus.CounterValue, sum.counted.BytesOut, "out")
	send(t.present, prometheus.GaugeValue, uint64(sum.now.Active), "active")
	send(t.present, prometheus.GaugeValue, uint64(sum.now.Inactive), "inactive")
}

// refresh adds up what was counted since the last time. If the kernel can't be read, what is known stays.
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

// choose decides which Services are named.
func (t *traffic) choose() {
	present := map[desired.Owner]struct{}{}
	for _, o := range t.owners {
		present[o] = struct{}{}
	}
	for o := range t.named {
		if _, there := present[o]; !there {
			delete(t.named, o)
		}
	}
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
	t.counted.Connections += c.Connections
	t.counted.PacketsIn += c.PacketsIn
	t.counted.PacketsOut += c.PacketsOut
	t.counted.BytesIn += c.BytesIn
	t.counted.BytesOut += c.BytesOut
	t.now.Active += now.Active
	t.now.Inactive += now.Inactive
}

// more is what was counted since before. Counters that went back began anew.
func more(before, now state.Counters) state.Counters {
	if now.Connections < before.Connections || now.PacketsIn < before.PacketsIn || now.PacketsOut < before.PacketsOut ||
		now.BytesIn < before.BytesIn || now.BytesOut < before.BytesOut {
		return now
	}
	return state.Counters{
		Connections: now.Connections - before.Connections,
		PacketsIn:   now.PacketsIn - before.PacketsIn, PacketsOut: now.PacketsOut - before.PacketsOut,
		BytesIn: now.BytesIn - before.BytesIn, BytesOut: now.BytesOut - before.BytesOut,
	}
}
