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

// view is what is known of the cluster and the node. It plans each Service anew
// when something changed that its rows depend on, and sends the result on.
type view struct {
	ctx    context.Context
	chosen config.Config
	log    *zap.Logger
	events chan<- reconcile.Event

	ports   Ports
	notices *Notices
	placed  func(cluster.Place)
	began   time.Time

	mutex    sync.Mutex    // the source and the watch on addresses both tell
	config   config.Config // what was chosen, completed by the place
	place    cluster.Place
	objects  plan.Node  // as the Node objects tell of it
	around   node.Event // as last told
	node     plan.Node  // all together
	census   *plan.Census[types.NamespacedName]
	services *register
	notes    map[types.NamespacedName][]state.Note
	told     bool // what may be written before all that there is
	complete bool // all that there is has been told
	doubts   []plan.Doubt
}

var _ cluster.Sink = (*view)(nil)

func newView(ctx context.Context, d Daemon, events chan<- reconcile.Event) *view {
	services := newRegister()
	if d.Notices != nil {
		services = d.Notices.services
	}
	return &view{
		ctx:      ctx,
		chosen:   d.Config,
		config:   plan.Settle(d.Config, nil, nil),
		log:      d.Log,
		events:   events,
		ports:    d.Ports,
		notices:  d.Notices,
		placed:   d.Placed,
		began:    time.Now(),
		objects:  plan.NodeOf(d.NodeName, nil, nil),
		node:     plan.NodeOf(d.NodeName, nil, nil),
		census:   plan.NewCensus[types.NamespacedName](),
		services: services,
		notes:    map[types.NamespacedName][]state.Note{},
	}
}

// send hands an event to the loop, which may be busy with the kernel.
func (v *view) send(e reconcile.Event) {
	select {
	case v.events <- e:
	case <-v.ctx.Done():
	}
}

// Service takes in the objects of one Service.
func (v *view) Service(key types.NamespacedName, now *cluster.Objects) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	before := v.services.set(key, now)
	origin := originOf(before, now, v.began)
	arrived, vacant := v.count(key, before, now)
	if now == nil {
		origin.Queued = v.now()
		delete(v.notes, key)
		v.ports.Set(key, plan.Fragment{})
		v.send(reconcile.Delete{Owner: owner(key), Origin: origin})
	} else {
		v.plan(key, now, origin, arrived...)
	}
	for _, other := range v.census.Wanting(slices.Concat(arrived, vacant)...) {
		if other != key {
			v.plan(other, v.services.of(other), reconcile.Origin{})
		}
	}
}

// count takes in where endpoints are now, and returns the addresses at which they
// came, and left.
func (v *view) count(key types.NamespacedName, before, now *cluster.Objects) (arrived, vacant []netip.Addr) {
	if was, is := serviceOf(before), serviceOf(now); was != is {
		v.census.Want(key, objectOf(was), objectOf(is))
	}
	left, came := cluster.Moved(before, now)
	return v.census.Move(left, came)
}

func objectOf(s cluster.Service) *corev1.Service {
	if s.IsZero() {
		return nil
	}
	return s.Object()
}

// now is when a change was told of. Before anything may be written nobody asks for
// that: the clock of a virtual machine may be slow to read.
func (v *view) now() time.Time {
	if !v.told {
		return time.Time{}
	}
	return time.Now()
}

// Place takes in what is around the Services.
func (v *view) Place(p cluster.Place) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if !slices.Equal(p.ServiceCIDRs, v.place.ServiceCIDRs) {
		v.log.Info("networks of cluster IPs", zap.Stringers("serviceCIDRs", p.ServiceCIDRs))
	}
	v.place = p
	if v.placed != nil {
		v.placed(p)
	}
	v.objects = plan.NodeOf(v.node.Name, p.Node, p.Others)
	v.settle()
	v.doubt()
}

// Listed says how much of what was there at the start is known.
func (v *view) Listed(e cluster.Extent) {
	v.mutex.Lock()
	v.told = true
	v.mutex.Unlock()
	if e == cluster.Restored {
		v.send(reconcile.Restored{})
		return
	}
	v.send(reconcile.Synced{})
	v.mutex.Lock()
	defer v.mutex.Unlock()
	v.complete = true
	v.doubt()
}

// doubt logs what of the configuration does not fit the node, when that changes.
// Before all is known, what is missing may only not have been told yet.
func (v *view) doubt() {
	if !v.complete {
		return
	}
	known := v.doubts
	v.doubts = plan.Doubts(v.chosen, v.place.Node)
	for _, d := range v.doubts {
		if !slices.Contains(known, d) {
			v.log.Warn("configuration does not fit the node", zap.String("field", d.Field), zap.String("why", d.Why))
		}
	}
}

// Routes takes in the node's own addresses, where NodePorts are served, with their
// networks, its gateways, at which no Service may be, and what its devices carry.
func (v *view) Routes(now node.Event) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if !slices.Equal(now.Gateways, v.around.Gateways) {
		v.log.Info("gateways of the node", zap.Stringers("gateways", now.Gateways))
	}
	if !slices.Equal(now.Addresses, v.around.Addresses) {
		v.log.Info("addresses of the node", zap.Stringers("addresses", now.Addresses))
		v.send(reconcile.Local{Addresses: now.Addresses})
	}
	if now.MTU != v.around.MTU {
		v.log.Info("least MTU of the node's devices", zap.Uint32("mtu", now.MTU))
	}
	v.around = now
	v.settle()
}

// settle puts together what is known of the node and the cluster, and plans
// anew what depends on what changed.
func (v *view) settle() {
	c := plan.Settle(v.chosen, v.place.Node, v.place.ServiceCIDRs)
	same := reflect.DeepEqual(c, v.config)
	if !same {
		v.config = c
		v.base()
	}
	n := v.objects.At(v.config.BindAddress).Protecting("a gateway", v.around.Gateways...).Protecting("the API server", v.config.APIServers...)
	n.Addresses, n.Networks, n.MTU = v.around.Addresses, v.around.Networks, v.around.MTU
	if same && n.Equal(v.node) {
		return
	}
	if others := newcomers(v.node.Others, n.Others); len(others) > 0 {
		v.send(reconcile.Arrived{Addresses: others})
	}
	v.node = n
	v.ports.Follow(n)
	v.planAll()
}

// newcomers are the addresses that others did not have before.
func newcomers(before, now map[netip.Addr]string) []netip.Addr {
	var list []netip.Addr
	for _, a := range slices.SortedFunc(maps.Keys(now), netip.Addr.Compare) {
		if _, known := before[a]; !known {
			list = append(list, a)
		}
	}
	return list
}

// base plans what is there without any Service.
func (v *view) base() { v.send(reconcile.Upsert{Fragment: plan.Base(v.config)}) }

// planAll plans all Services again, in a fixed order, so that logs of two runs
// can be compared. Those whose rows stay the same cost the kernel nothing.
func (v *view) planAll() {
	for _, key := range v.services.keys() {
		v.plan(key, v.services.of(key), reconcile.Origin{})
	}
}

// plan unpacks the objects of one Service, for as long as it is planned. At addresses
// that arrived, endpoints came with it.
func (v *view) plan(key types.NamespacedName, all *cluster.Objects, origin reconcile.Origin, arrived ...netip.Addr) {
	var o plan.Objects
	o.Service, o.Slices = all.Unpack()
	o.Present = v.census.Of(o.Service)
	f := plan.Service(o, v.node, v.config)
	v.report(key, f.Notes)
	v.ports.Set(key, f)
	origin.Queued = v.now()
	v.send(reconcile.Upsert{Owner: owner(key), Created: o.Service.CreationTimestamp.Time, Fragment: f, Arrived: arrived, Origin: origin})
}

// report logs and tells the notes of a Service when they change. That a Service is not
// for us is nothing to warn of.
func (v *view) report(key types.NamespacedName, notes []state.Note) {
	if slices.Equal(v.notes[key], notes) {
		return
	}
	known := v.notes[key]
	v.notes[key] = notes
	if len(notes) == 0 {
		delete(v.notes, key)
	}
	for _, n := range notes {
		if slices.Contains(known, n) {
			continue
		}
		log := v.log.Warn
		if n.Reason == state.SkippedService {
			log = v.log.Debug
		} else {
			v.notices.note(key, n)
		}
		log("part of a Service is left out", zap.Stringer("service", key),
			zap.Stringer("reason", n.Reason), zap.String("field", n.Field), zap.String("why", n.Message))
	}
}

func owner(key types.NamespacedName) desired.Owner {
	return desired.Owner{Namespace: key.Namespace, Name: key.Name}
}
