// SPDX-License-Identifier: Apache-2.0

// Package kube takes Kubernetes objects from an API server and follows them: the Services, EndpointSlices and
// ServiceCIDRs of the cluster and the Node object of this node, chosen by the server, read by streaming lists
// where it has them, and packed to what is used as they come, one by one.
//
// client-go's reflectors list, watch and begin anew where a watch was lost. There is one copy of each object,
// and it is packed. A cluster.Index that one goroutine owns has all of them. An API server that is away takes
// nothing away: what is known stays, and the watches go on where they were once it is back. Only a new list,
// or a watch, can say that something is gone.
//
// How the API server is reached is package client's business.
package kube

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Client is how the groups of the API are asked that have what is followed.
type Client interface {
	Core() rest.Interface
	Discovery() rest.Interface
	Networking() rest.Interface
}

// Source is an API server.
type Source struct {
	Client Client
	Node   string // the name of this Node
	Log    *zap.Logger

	link   link
	pauses pauses
}

var _ cluster.Source = (*Source)(nil)

// pauses are how long what is waited. Zero: as a real cluster needs it.
type pauses struct {
	again   wait.Backoff  // after a request that failed
	refused time.Duration // after a refusal that may last
	doubt   time.Duration // until one that may pass is taken for one that lasts
	node    time.Duration // for the Node object, at the start
}

// withDefaults bounds the pause after a failure to 30 s, jitter included: an API server that is back is soon
// noticed, though not by all nodes at once.
func (p pauses) withDefaults() pauses {
	if p.again.Duration == 0 {
		p.again = wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 15 * time.Second}
	}
	if p.refused == 0 {
		p.refused = 5 * time.Minute
	}
	if p.doubt == 0 {
		p.doubt = 30 * time.Second
	}
	if p.node == 0 {
		p.node = 30 * time.Second // as kube-proxy
	}
	return p
}

// Status is how the API server is followed at present.
func (s *Source) Status() Status { return s.link.status() }

// Run tells sink of the objects, as cluster.Source says. It has no end of its own: an API server may always
// come back.
func (s *Source) Run(ctx context.Context, sink cluster.Sink) error {
	s.link.begin(s.Log)
	pauses := s.pauses.withDefaults()
	r := &run{
		node: s.Node, patience: pauses.node, sink: sink, log: s.Log, kinds: kinds(s.Client, s.Node),
		index: cluster.NewIndex(), inbox: newInbox(), dirty: map[types.NamespacedName]bool{},
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

// run is a Source at work: all of it belongs to one goroutine.
type run struct {
	node     string
	patience time.Duration // with a Node object that is not there
	sink     cluster.Sink
	log      *zap.Logger
	kinds    [kindCount]kind
	index    *cluster.Index
	inbox    *inbox

	listed   [kindCount]bool // all of that kind was known once
	complete bool
	dirty    map[types.NamespacedName]bool // Services that are to be told
	moved    bool                          // the Place is to be told
}

// loop takes in what came and tells it. What comes meanwhile waits in the inbox, each object once.
func (r *run) loop(ctx context.Context) {
	var late <-chan time.Time // nil: the Node object is not waited for
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.inbox.wake:
			r.take()
		case <-late:
			r.log.Warn("no Node object with an address for this node yet; going on without", zap.String("node", r.node))
			r.begin()
		}
		switch {
		case r.complete:
			r.tell()
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

// take brings what came into the index.
func (r *run) take() {
	for i, b := range r.inbox.take() {
		r.listed[i] = r.listed[i] || b.whole
		c := b.apply(r.kinds[i], r.index)
		r.moved = r.moved || c.place
		for _, key := range c.services {
			r.dirty[key] = true
		}
	}
}

// begin tells all there is.
func (r *run) begin() {
	clear(r.dirty)
	for _, key := range r.index.Services() {
		r.dirty[key] = true
	}
	r.moved, r.complete = true, true
	r.log.Info("all objects are known", zap.Int("services", len(r.dirty)))
	r.tell()
	r.sink.Listed(cluster.Complete)
}

// tell tells of the Place first: what Services mean depends on it.
func (r *run) tell() {
	if r.moved {
		r.sink.Place(r.index.Place(r.node))
	}
	keys := slices.SortedFunc(maps.Keys(r.dirty), cluster.CompareKeys)
	for _, gone := range []bool{true, false} { // first: others may have their addresses now
		for _, key := range keys {
			if r.index.Has(key) != gone {
				r.sink.Service(key, r.index.Objects(key))
			}
		}
	}
	r.dirty = map[types.NamespacedName]bool{} // not cleared: at the start it is as large as the cluster
	r.moved = false
}

// hasAddress says whether there is a Node object and it has an address: a kubelet makes the object first.
func hasAddress(n *corev1.Node) bool {
	return n != nil && slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool {
		return a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP
	})
}
