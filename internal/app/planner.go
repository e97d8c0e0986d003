// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// planner plans a Service again when something that its rows depend on changes: its objects, endpoints at its
// addresses, the node or the configuration. It sends the result to the reconcile loop.
type planner struct {
	ctx     context.Context
	daemon  Daemon
	events  chan<- reconcile.Event
	started time.Time

	mutex     sync.Mutex    // the source and the watch on addresses call concurrently
	config    config.Config // the daemon's, completed by the place
	place     cluster.Place
	nodeOnly  plan.Node // by the Node objects alone
	addresses node.Event
	node      plan.Node // with all of these
	census    *plan.Census[types.NamespacedName]
	services  *serviceObjects
	notes     map[types.NamespacedName][]state.Note // as reported
	listed    bool                                  // Listed was called: the kernel may be written
	complete  bool                                  // all objects are known
	doubts    []plan.Doubt                          // as logged
}

func newPlanner(ctx context.Context, d Daemon, events chan<- reconcile.Event) *planner {
	services := newServiceObjects()
	if d.Notices != nil {
		services = d.Notices.services
	}
	return &planner{
		ctx:      ctx,
		daemon:   d,
		events:   events,
		started:  time.Now(),
		config:   plan.Settle(d.Config, nil, nil),
		nodeOnly: plan.NodeOf(d.NodeName, nil, nil),
		node:     plan.NodeOf(d.NodeName, nil, nil),
		census:   plan.NewCensus[types.NamespacedName](),
		services: services,
		notes:    map[types.NamespacedName][]state.Note{},
	}
}

// send gives an event to the loop, which may be busy with the kernel.
func (p *planner) send(e reconcile.Event) {
	select {
	case p.events <- e:
	case <-p.ctx.Done():
	}
}

// Service takes the objects of one Service; nil if there are none any more.
func (p *planner) Service(key types.NamespacedName, now *cluster.Objects) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	before := p.services.set(key, now)
	origin := originOf(before, now, p.started)
	arrived, vacant := p.count(key, before, now)
	if now == nil {
		origin.Queued = p.now()
		delete(p.notes, key)
		p.daemon.Ports.Set(key, plan.Fragment{})
		p.send(reconcile.Delete{Owner: owner(key), Origin: origin})
	} else {
		p.plan(key, now, origin, arrived...)
	}
	for _, other := range p.census.Wanting(slices.Concat(arrived, vacant)...) {
		if other != key {
			p.plan(other, p.services.of(other), reconcile.Origin{})
		}
	}
}

// count updates the census of endpoints. It returns the addresses with a first endpoint, and without a last.
func (p *planner) count(key types.NamespacedName, before, now *cluster.Objects) (arrived, vacant []netip.Addr) {
	if was, is := serviceOf(before), serviceOf(now); was != is {
		p.census.Want(key, unpacked(was), unpacked(is))
	}
	left, came := cluster.Moved(before, now)
	return p.census.Move(left, came)
}

// unpacked returns the object of a Service; nil if there is none.
func unpacked(s cluster.Service) *corev1.Service {
	if s.IsZero() {
		return nil
	}
	return s.Object()
}

// now returns the time after the start. Before that it is not needed, and a slow clock would cost much.
func (p *planner) now() time.Time {
	if !p.listed {
		return time.Time{}
	}
	return time.Now()
}

// Place takes what surrounds the Services: Nodes and ServiceCIDRs.
func (p *planner) Place(place cluster.Place) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !slices.Equal(place.ServiceCIDRs, p.place.ServiceCIDRs) {
		p.daemon.Log.Info("networks of cluster IPs", zap.Stringers("serviceCIDRs", place.ServiceCIDRs))
	}
	p.place = place
	if p.daemon.Placed != nil {
		p.daemon.Placed(place)
	}
	p.nodeOnly = plan.NodeOf(p.node.Name, place.Node, place.Others)
	p.update()
	p.logDoubts()
}

// Listed lets the kernel be written.
func (p *planner) Listed(e cluster.Extent) {
	p.mutex.Lock()
	p.listed = true
	p.mutex.Unlock()
	if e == cluster.Restored {
		p.send(reconcile.Restored{})
		return
	}
	p.send(reconcile.Synced{})
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.complete = true
	p.logDoubts()
}

// logDoubts logs new doubts about the configuration on this node, once all objects are known.
func (p *planner) logDoubts() {
	if !p.complete {
		return
	}
	known := p.doubts
	p.doubts = plan.Doubts(p.daemon.Config, p.place.Node)
	for _, d := range p.doubts {
		if !slices.Contains(known, d) {
			p.daemon.Log.Warn("configuration does not fit the node", zap.String("field", d.Field), zap.String("why", d.Why))
		}
	}
}

// SetAddresses takes the node's own addresses, networks, gateways and MTU.
func (p *planner) SetAddresses(now node.Event) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !slices.Equal(now.Gateways, p.addresses.Gateways) {
		p.daemon.Log.Info("gateways of the node", zap.Stringers("gateways", now.Gateways))
	}
	if !slices.Equal(now.Addresses, p.addresses.Addresses) {
		p.daemon.Log.Info("addresses of the node", zap.Stringers("addresses", now.Addresses))
		p.send(reconcile.Local{Addresses: now.Addresses})
	}
	if now.MTU != p.addresses.MTU {
		p.daemon.Log.Info("least MTU of the node's devices", zap.Uint32("mtu", now.MTU))
	}
	p.addresses = now
	p.update()
}

// WithAddresses returns n with the node's addresses, networks and MTU. No Service may take its gateways.
func WithAddresses(n plan.Node, e node.Event) plan.Node {
	n.Addresses, n.Networks, n.MTU = e.Addresses, e.Networks, e.MTU
	return n.Protecting("a gateway", e.Gateways...)
}

// update derives configuration and node again, and plans everything that depends on what changed.
func (p *planner) update() {
	c := plan.Settle(p.daemon.Config, p.place.Node, p.place.ServiceCIDRs)
	same := reflect.DeepEqual(c, p.config)
	if !same {
		p.config = c
		p.planBase()
	}
	n := WithAddresses(p.nodeOnly.At(c.BindAddress), p.addresses).Protecting("the API server", c.APIServers...)
	if same && n.Equal(p.node) {
		return
	}
	if added := newAddresses(p.node.Others, n.Others); len(added) > 0 {
		p.send(reconcile.Arrived{Addresses: added})
	}
	p.node = n
	p.daemon.Ports.Follow(n)
	// Services whose rows stay the same cost the kernel nothing. The order is fixed, for the log.
	for _, key := range p.services.keys() {
		p.plan(key, p.services.of(key), reconcile.Origin{})
	}
}

// newAddresses returns the addresses that are only in now, sorted.
func newAddresses(before, now map[netip.Addr]string) []netip.Addr {
	added := maps.Clone(now)
	maps.DeleteFunc(added, func(a netip.Addr, _ string) bool { _, known := before[a]; return known })
	return slices.SortedFunc(maps.Keys(added), netip.Addr.Compare)
}

// planBase plans the rows that need no Service.
func (p *planner) planBase() { p.send(reconcile.Upsert{Fragment: plan.Base(p.config)}) }

// plan plans one Service. Arrived are addresses that got their first endpoint with this change.
func (p *planner) plan(key types.NamespacedName, all *cluster.Objects, origin reconcile.Origin, arrived ...netip.Addr) {
	var o plan.Objects
	o.Service, o.Slices = all.Unpack()
	o.Present = p.census.Of(o.Service)
	f := plan.Service(o, p.node, p.config)
	p.report(key, f.Notes)
	p.daemon.Ports.Set(key, f)
	origin.Queued = p.now()
	p.send(reconcile.Upsert{Owner: owner(key), Created: o.Service.CreationTimestamp.Time, Fragment: f, Arrived: arrived, Origin: origin})
}

// report logs the new notes of a Service and records events. A skipped Service is no problem.
func (p *planner) report(key types.NamespacedName, notes []state.Note) {
	known := p.notes[key]
	if slices.Equal(known, notes) {
		return
	}
	p.notes[key] = notes
	if len(notes) == 0 {
		delete(p.notes, key)
	}
	for _, n := range notes {
		if slices.Contains(known, n) {
			continue
		}
		log := p.daemon.Log.Warn
		if n.Reason == state.SkippedService {
			log = p.daemon.Log.Debug
		} else {
			p.daemon.Notices.note(key, n)
		}
		log("part of a Service is left out", zap.Stringer("service", key),
			zap.Stringer("reason", n.Reason), zap.String("field", n.Field), zap.String("why", n.Message))
	}
}

func owner(key types.NamespacedName) desired.Owner {
	return desired.Owner{Namespace: key.Namespace, Name: key.Name}
}
