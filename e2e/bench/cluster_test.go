// SPDX-License-Identifier: Apache-2.0

// Package bench measures what the program as a whole costs on a real kernel: the start of a daemon with a large
// cluster, against the least that the same rows could cost, and one endpoint's change. It holds tests and benchmarks
// only; the tests count operations, which no slow machine can falsify, the benchmarks time.
package bench

import (
	"context"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// endpoints is how many a Service has, of each family.
const endpoints = 5

// setting is the daemon's configuration and node. No audit comes by itself while a test counts.
func setting() (config.Config, plan.Node) {
	c := config.Default()
	c.SyncPeriod = time.Hour
	return c, plan.Node{Name: large.NodeName(0), Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
}

// rows are what the kernel holds when all objects are served.
func rows(objects []plan.Objects) state.State {
	c, n := setting()
	return large.Rows(c, n, objects)
}

// memory is a source that has all objects at once, and one more when it is asked for.
type memory struct {
	objects []plan.Objects
	more    <-chan plan.Objects
}

func (m memory) Run(ctx context.Context, sink cluster.Sink) error {
	for _, o := range m.objects {
		tell(sink, o)
	}
	sink.Listed(cluster.Complete)
	select {
	case o := <-m.more:
		tell(sink, o)
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

func tell(sink cluster.Sink, o plan.Objects) {
	sink.Service(types.NamespacedName{Namespace: o.Service.Namespace, Name: o.Service.Name}, cluster.Pack(o.Service, o.Slices...))
}
