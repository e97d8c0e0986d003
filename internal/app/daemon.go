// SPDX-License-Identifier: Apache-2.0

// Package app is the program on this machine: it builds the daemon from a configuration, runs it, and does for the commands
// what needs this machine's kernel. The flow of the daemon is in Daemon.Run:
//
//	source, node -> view -> plan -> events -> reconcile -> kernel
//
// It starts the goroutines and joins them. What is decided is decided in plan and reconcile; what is parsed and printed, in cli.
package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Addresses tells of the node's own addresses, their networks, its gateways and what
// its devices carry.
type Addresses interface {
	Now(ctx context.Context) (node.Event, error)
	// Watch tells of all now and at each change, until ctx ends.
	Watch(ctx context.Context, each func(node.Event)) error
}

// Ports are told what Services wish that is not the kernel's to do.
type Ports interface {
	Set(types.NamespacedName, plan.Fragment)
	Follow(plan.Node)
}

// Daemon is what Run needs.
type Daemon struct {
	Config    config.Config
	NodeName  string
	Source    cluster.Source
	Addresses Addresses
	Kernel    reconcile.Kernel
	Ports     Ports
	Observer  reconcile.Observer  // nil: nobody
	Notices   *Notices            // nil: nobody is told
	Placed    func(cluster.Place) // is told what is around the Services; nil: nobody
	Log       *zap.Logger
}

const (
	// queued is how many planned changes may wait while the kernel is written.
	queued = 1024
	// drainCheck is how soon a real server without connections leaves.
	drainCheck = time.Second
	// auditPause keeps somebody who fights over a table from making us list
	// all tables all the time.
	auditPause = time.Second
	// watchAgain is the pause after the watch on the node's addresses broke.
	watchAgain = time.Second
)

// Run keeps the kernel at the wish of the source's Services until ctx ends or
// the source fails. It leaves the kernel as it is: forwarding goes on.
func (d Daemon) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan reconcile.Event, queued)
	v := newView(ctx, d, events)
	if err := d.begin(ctx, v); err != nil {
		return err
	}

	var failed error
	var others sync.WaitGroup
	others.Go(func() {
		defer stop()
		if err := d.Source.Run(ctx, v); err != nil {
			failed = fmt.Errorf("reading Services: %w", err)
		}
	})
	others.Go(func() { d.watchAddresses(ctx, v) })
	reconcile.NewLoop(d.options(), d.Kernel, d.Log, d.observer()).Run(ctx, events)
	others.Wait()
	return failed
}

// begin tells what is wished without any Service and what is known of the node.
// The addresses must be known before any Service is planned: NodePorts that are
// missing at the start would be removed from the kernel.
func (d Daemon) begin(ctx context.Context, v *view) error {
	now, err := d.Addresses.Now(ctx)
	if err != nil {
		return fmt.Errorf("reading the node's addresses and gateways: %w", err)
	}
	v.base()
	v.Routes(now)
	return nil
}

// observer is who looks on, and the notices.
func (d Daemon) observer() reconcile.Observer {
	switch {
	case d.Notices == nil:
		return d.Observer
	case d.Observer == nil:
		return d.Notices
	}
	return reconcile.All(d.Observer, d.Notices)
}

func (d Daemon) options() reconcile.Options {
	return reconcile.Options{
		Ownership:    plan.Ownership{Exclude: d.Config.ExcludeCIDRs},
		SyncPeriod:   d.Config.SyncPeriod,
		DrainTimeout: d.Config.DrainTimeout,
		DrainCheck:   drainCheck,
		AuditPause:   auditPause,
		Predecessor:  takeover.Predecessors{},

		MinSyncPeriod: d.Config.MinSyncPeriod,
	}
}

// watchAddresses follows the node's addresses and gateways. While the watch is broken the
// last known ones stay.
func (d Daemon) watchAddresses(ctx context.Context, v *view) {
	for ctx.Err() == nil {
		err := d.Addresses.Watch(ctx, func(e node.Event) {
			v.Routes(e)
			if e.LinkLost {
				d.Log.Warn("device of the Service addresses was deleted or changed; putting it right", zap.String("device", string(state.DummyLink)))
				v.send(reconcile.Drifted{})
			}
		})
		if errors.Is(err, context.Canceled) {
			return
		}
		d.Log.Warn("watch on the node's addresses broke; watching again", zap.Error(err))
		v.send(reconcile.Drifted{}) // the device may have been lost unseen
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}
