// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// kernelOf is a kernel with counters that a test sets.
type kernelOf struct {
	loads map[state.VirtualServerKey]state.Load
	err   error
	reads int
}

func (k *kernelOf) Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error) {
	k.reads++
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("reading may take for ever")
	}
	return k.loads, k.err
}

// busy is a node with a kernel and Metrics of the traffic of some Services.
type busy struct {
	*Metrics
	kernel *kernelOf
	t      *testing.T
}

func newBusy(t *testing.T, most int) busy {
	k := &kernelOf{loads: map[state.VirtualServerKey]state.Load{}}
	return busy{New(Options{Families: both, Traffic: most, Loads: k}), k, t}
}

// load is one that counted n connections, and other things in proportion.
func load(n uint64) state.Load {
	return state.Load{
		Counters:    state.Counters{Connections: n, PacketsIn: 2 * n, PacketsOut: 3 * n, BytesIn: 200 * n, BytesOut: 300 * n},
		Connections: state.Connections{Active: uint32(n), Inactive: 1},
	}
}

func (b busy) own(server string, o desired.Owner) {
	b.Received(reconcile.Change{Event: reconcile.Upsert{Owner: o}, Owners: []reconcile.ServerOwner{{Key: serverKey(b.t, server), Owner: o, Owned: true}}})
}

func (b busy) disown(server string) {
	b.Received(reconcile.Change{Event: reconcile.Delete{}, Owners: []reconcile.ServerOwner{{Key: serverKey(b.t, server)}}})
}

func (b busy) counts(server string, n uint64) { b.kernel.loads[serverKey(b.t, server)] = load(n) }

// connections wants, after the time that answers are kept, these numbers of connections of all Services, by
// "namespace/name".
func (b busy) connections(when string, expected map[string]float64) {
	b.t.Helper()
	time.Sleep(fresh)
	got := values(b.t, b.Metrics)
	n := 0
	for name := range got {
		if len(name) > 35 && name[:35] == "kubeipvs_service_connections_total{" {
			n++
		}
	}
	if n != len(expected) {
		b.t.Errorf("%s: %d Services, want %d: %v", when, n, len(expected), got)
	}
	for who, v := range expected {
		var namespace, name string
		if _, err := fmt.Sscanf(who, "%s %s", &namespace, &name); err != nil {
			namespace, name = "", who
		}
		series := fmt.Sprintf("{namespace=%s,service=%s}", namespace, name)
		if got["kubeipvs_service_connections_total"+series] != v {
			b.t.Errorf("%s: %s has %v connections, want %v", when, who, got["kubeipvs_service_connections_total"+series], v)
		}
	}
}

func TestTheTrafficOfAServiceIsThatOfItsVirtualServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusy(t, 10)
		b.own("TCP 10.96.0.1:80", web)
		b.own("TCP [fd00::1]:80", web)
		b.own("FWM 4096", mail)
		b.counts("TCP 10.96.0.1:80", 5)
		b.counts("TCP [fd00::1]:80", 2)
		b.counts("FWM 4096", 1)
		b.counts("TCP 192.0.2.1:22", 100) // another program's
		want(t, "traffic", b.Metrics, map[string]float64{
			"kubeipvs_service_connections_total{namespace=shop,service=web}":           7,
			"kubeipvs_service_packets_total{direction=in,namespace=shop,service=web}":  14,
			"kubeipvs_service_packets_total{direction=out,namespace=shop,service=web}": 21,
			"kubeipvs_service_bytes_total{direction=in,namespace=shop,service=web}":    1400,
			"kubeipvs_service_bytes_total{direction=out,namespace=shop,service=web}":   2100,
			"kubeipvs_service_connections{namespace=shop,service=web,state=active}":    7,
			"kubeipvs_service_connections{namespace=shop,service=web,state=inactive}":  2,
			"kubeipvs_service_connections_total{namespace=shop,service=mail}":          1,
			"kubeipvs_service_connections_total{namespace=,service=other}":             0,
			"kubeipvs_traffic_read_errors_total":                                       0,
		})
	})
}

func TestTheTrafficOfAServiceNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusy(t, 10)
		b.own("TCP 10.96.0.1:80", web)
		b.own("TCP 10.96.0.1:443", web)
		b.counts("TCP 10.96.0.1:80", 5)
		b.counts("TCP 10.96.0.1:443", 10)
		b.connections("at first", map[string]float64{"shop web": 15, "other": 0})
		b.counts("TCP 10.96.0.1:80", 8)
		b.connections("three more", map[string]float64{"shop web": 18, "other": 0})
		b.counts("TCP 10.96.0.1:80", 2)
		b.connections("a virtual server that was made anew", map[string]float64{"shop web": 20, "other": 0})
		delete(b.kernel.loads, serverKey(t, "TCP 10.96.0.1:443"))
		b.connections("one that is gone", map[string]float64{"shop web": 20, "other": 0})
		b.counts("TCP 10.96.0.1:443", 1)
		b.connections("and there again", map[string]float64{"shop web": 21, "other": 0})
		b.own("TCP 10.96.0.1:443", mail)
		b.counts("TCP 10.96.0.1:443", 4)
		b.connections("one that is another Service's", map[string]float64{"shop web": 21, "shop mail": 3, "other": 0})
		b.kernel.err = errors.New("no answer")
		b.connections("a kernel that can't be read", map[string]float64{"shop web": 21, "shop mail": 3, "other": 0})
		want(t, "a kernel that can't be read", b.Metrics, map[string]float64{"kubeipvs_traffic_read_errors_total": 1})
	})
}

func TestOnlySoManyServicesAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusy(t, 2)
		service := func(n int) (string, desired.Owner) {
			return fmt.Sprintf("TCP 10.96.0.%d:80", n), desired.Owner{Namespace: "n", Name: fmt.Sprint("s", n)}
		}
		for _, n := range []int{4, 3, 2} {
			server, o := service(n)
			b.own(server, o)
			b.counts(server, uint64(n))
		}
		b.connections("the first by name", map[string]float64{"n s2": 2, "n s3": 3, "other": 4})
		server, o := service(1)
		b.own(server, o)
		b.counts(server, 10)
		b.connections("who comes later is not named", map[string]float64{"n s2": 2, "n s3": 3, "other": 14})
		gone, _ := service(2)
		b.disown(gone)
		b.connections("a name that is free goes to the next", map[string]float64{"n s1": 0, "n s3": 3, "other": 14})
		b.counts(server, 11)
		b.connections("who counts from there on", map[string]float64{"n s1": 1, "n s3": 3, "other": 14})
	})
}

func TestTheKernelIsReadOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusy(t, 2)
		for range 10 {
			values(t, b.Metrics)
		}
		if b.kernel.reads != 1 {
			t.Errorf("read %d times at once", b.kernel.reads)
		}
		time.Sleep(fresh)
		values(t, b.Metrics)
		if b.kernel.reads != 2 {
			t.Errorf("read %d times in two seconds", b.kernel.reads)
		}
	})
}

func TestNoTrafficIsReadThatIsNotCounted(t *testing.T) {
	k := &kernelOf{}
	m := New(Options{Families: both, Loads: k})
	m.Received(reconcile.Change{Owners: []reconcile.ServerOwner{{}}})
	if _, there := values(t, m)["kubeipvs_traffic_read_errors_total"]; there || k.reads != 0 {
		t.Errorf("read %d times", k.reads)
	}
}
