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

// traffic collects the traffic of Services. The kernel counts by virtual server, from zero when it is made
// anew. A Service's counter is the sum of the increases of its virtual servers, so it never decreases. What a
// virtual server counted between the last reading and its removal is lost.
//
// The first Services that are seen are named, sorted by name if several are new; a name becomes free when its
// Service is gone. So series come and go with Services, not with their traffic.
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
