// SPDX-License-Identifier: Apache-2.0

// Package kube reads Kubernetes objects from an API server and follows them: Services, EndpointSlices, ServiceCIDRs,
// and the Node of this node. The server selects them and streams lists if it can. Each object is packed as it arrives,
// and one copy is kept, in a cluster.Index that belongs to one goroutine.
//
// client-go's reflectors list and watch. While an API server is away, everything known stays, and watches resume when
// it is back. Only a new list or a watch event removes an object.
//
// Client connects to the API server: ring switches between several, and link tracks whether they answer.
package kube

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Source is an API server.
type Source struct {
	Client *Client
	Node   string // the name of this Node
	Log    *zap.Logger

	link   link
	pauses pauses
}

var _ cluster.Source = (*Source)(nil)

// pauses are how long to wait. Zero: as a real cluster needs.
type pauses struct {
	again   wait.Backoff  // after a request that failed
	refused time.Duration // after a refusal that may last
	doubt   time.Duration // until a refusal is taken to last
	node    time.Duration // for the Node object, at the start
}

// withDefaults limits the pause after a failure to 30 s. With jitter, not all nodes are back at once.
func (p pauses) withDefaults() pauses {
	if p.again.Duration == 0 {
		p.again = wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 15 * time.Second}
	}
	p.refused = cmp.Or(p.refused, 5*time.Minute)
	p.doubt = cmp.Or(p.doubt, 30*time.Second)
	p.node = cmp.Or(p.node, 30*time.Second) // as kube-proxy
	return p
}

// Status returns the state of the connection.
func (s *Source) Status() Status { return s.link.status() }

// Run implements cluster.Source. It never fails: an API server may always come back.
func (s *Source) Run(ctx context.Context, sink cluster.Sink) error {
	s.link.begin(s.Log)
	pauses := s.pauses.withDefaults()
	r := &run{
		node: s.Node, patience: pauses.node, sink: sink, log: s.Log, kinds: kinds(s.Client, s.Node),
		index: cluster.NewIndex(), inbox: newInbox(),
	}
	var feeds sync.WaitGroup
	for i, k := range r.kinds {
		f := &feed{number: i, kind: k, inbox: r.inbox, link: &s.link, pauses: pauses, log: s.Log}
		feeds.Go(func() { f.run(ctx) })
	}
	r.loop(ctx)
	feeds.Wait()
	return nil
}

// run is a running Source. It belongs to one goroutine.
type run struct {
	node     string
	patience time.Duration // how long to wait for the Node object
	sink     cluster.Sink
	log      *zap.Logger
	kinds    [kindCount]kind
	index    *cluster.Index
	inbox    *inbox

	listed   [kindCount]bool // all of that kind was known once
	complete bool
	pending  cluster.Changes // to be reported
}

// loop applies and reports what came. Further changes wait in the inbox, each object once.
func (r *run) loop(ctx context.Context) {
	var late <-chan time.Time // nil: not waiting for the Node object
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.inbox.wake:
			r.take()
		case <-late:
			r.log.Warn("no Node object with an address for this node yet; continuing without it", zap.String("node", r.node))
			r.begin()
		}
		switch {
		case r.complete:
			r.report()
		case slices.Contains(r.listed[:], false):
		case hasAddress(r.index.Place(r.node).Node):
			r.begin()
		case late == nil:
			late = time.After(r.patience)
		}
		if r.complete {
			late = nil
		}
	}
}

func (r *run) take() {
	for i, b := range r.inbox.take() {
		r.listed[i] = r.listed[i] || b.whole
		b.apply(r.kinds[i], r.index, &r.pending)
	}
}

func (r *run) begin() {
	r.pending = cluster.Changes{Place: true}
	r.pending.Add(r.index.Services())
	r.complete = true
	r.log.Info("all objects are known", zap.Int("services", len(r.pending.Services)))
	r.report()
	r.sink.Listed(cluster.Complete)
}

func (r *run) report() {
	r.pending.Report(r.index, r.node, r.sink)
	r.pending = cluster.Changes{}
}

// hasAddress reports whether n has an address: a kubelet first creates a Node without.
func hasAddress(n *corev1.Node) bool {
	return n != nil && slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool {
		return a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP
	})
}
