// SPDX-License-Identifier: Apache-2.0

// Package app builds and runs the daemon, and does for the other commands what needs this machine's kernel. This file
// is the flow of the daemon: Run, which has a session for each configuration, and Daemon.Run:
//
//	source, node addresses -> planner -> events -> reconcile -> kernel
//
// session.go and source.go build what a Daemon needs; planner.go turns objects into events for the reconcile loop.
// read.go and barriers.go are for the commands that only read, cleanup.go is for cleanup.
package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/metrics"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Run runs the daemon on this machine's kernel until ctx ends, with a new session for each changed configuration. If
// that one cannot be used, the previous one is used again. It logs to standard error.
func Run(ctx context.Context, d cli.Daemon) (err error) {
	var libraries libraryLogs
	log, err := openLog(d.Config.Log, &libraries)
	if err != nil {
		return err
	}
	if d.InitOnly {
		return Prepare(ctx, d.Config, log)
	}
	release, err := Hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	setGCPercent()
	lasting := metrics.Begin()
	for last, changed := d, false; ; {
		if log, err = openLog(d.Config.Log, &libraries); err != nil {
			return err
		}
		s := &session{options: d, log: log, lasting: lasting}
		switch err := s.open(ctx); {
		case err == nil:
		case errors.Is(err, context.Canceled):
			return s.close()
		case !changed:
			return errors.Join(err, s.close())
		default:
			s.refuse(err)
			last.Files = d.Files // with the old ones, the same change would be found again
			d, changed = last, false
			if err := s.close(); err != nil {
				return err
			}
			continue
		}
		if changed {
			lasting.Reloaded(nil)
		}
		next, err := s.runUntilChanged(ctx)
		if err = errors.Join(err, s.close()); err != nil || ctx.Err() != nil {
			return err
		}
		last, d, changed = d, next, true
	}
}

// runUntilChanged runs until ctx ends or the configuration changes, and returns the new one. A restart is all that a
// change takes: stopping costs no connection, and starting writes only rows that differ.
func (s *session) runUntilChanged(ctx context.Context) (next cli.Daemon, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	watching.Go(func() {
		watchFiles(ctx, s.options.Files, func() {
			d, err := s.options.Reload()
			if err != nil {
				s.refuse(err)
				return
			}
			s.log.Info("configuration changed; restarting with it")
			next = d
			stop()
		})
	})
	err = s.run(ctx)
	stop()
	watching.Wait()
	return next, err
}

// refuse reports a changed configuration that cannot be used.
func (s *session) refuse(err error) {
	s.lasting.Reloaded(err)
	s.log.Error("changed configuration refused; keeping the previous one", zap.Error(err))
	s.events.Node(corev1.EventTypeWarning, "ConfigurationRefused", fmt.Sprintf("keeping the previous configuration: %v", err))
}

// run runs the Daemon, and what it needs beside it, until ctx ends.
func (s *session) run(ctx context.Context) error {
	notices := newNotices(s.events)
	ports := newListeners(s.config, s.log, s.health.Healthy, notices)
	defer ports.Close()
	s.log.Info("starting", zap.String("node", s.node), zap.String("source", s.source.name), zap.Stringers("families", s.config.Families))
	s.events.Node(corev1.EventTypeNormal, "Starting", "")
	var recording sync.WaitGroup
	defer recording.Wait()
	if s.events != nil {
		recording.Go(func() { s.events.Run(ctx) })
	}
	err := s.daemon(notices, ports).Run(ctx)
	s.log.Info("stopping; the kernel keeps forwarding")
	return err
}

// Addresses reports the node's addresses, their networks, its gateways and the MTU of its devices.
type Addresses interface {
	Now(ctx context.Context) (node.Event, error)
	// Watch calls each with the current values and after each change, until ctx ends.
	Watch(ctx context.Context, each func(node.Event)) error
}

// Ports serves what Services need beside rows in the kernel.
type Ports interface {
	Set(types.NamespacedName, plan.Fragment)
	Follow(plan.Node)
}

// Daemon keeps the kernel in sync with the Services of a source.
type Daemon struct {
	Config    config.Config
	NodeName  string
	Source    cluster.Source
	Addresses Addresses
	Changes   Changes // nil: the firewall has no events
	Kernel    reconcile.Kernel
	Ports     Ports
	Observer  reconcile.Observer  // may be nil
	Notices   *Notices            // may be nil
	Placed    func(cluster.Place) // called with each new Place; may be nil
	Log       *zap.Logger
}

const (
	// queueLength is how many planned changes may wait while the kernel is written.
	queueLength = 1024
	// drainCheck is how soon a real server without connections is removed.
	drainCheck = time.Second
	// auditPause is the least time between two audits, also if another program keeps changing a table.
	auditPause = time.Second
	// watchAgain is the pause after the watch on the node's addresses failed.
	watchAgain = time.Second
)

// Changes calls each after other programs changed our rules, until ctx ends or it fails.
type Changes interface {
	Run(ctx context.Context, each func()) error
}

// Run keeps the kernel in sync until ctx ends or the source fails. Forwarding goes on after it returns.
func (d Daemon) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan reconcile.Event, queueLength)
	p := newPlanner(ctx, d, events)
	// Without the addresses, the first plan would lack NodePorts, and those in the kernel would be removed.
	now, err := d.Addresses.Now(ctx)
	if err != nil {
		return fmt.Errorf("reading the node's addresses and gateways: %w", err)
	}
	p.planBase()
	p.SetAddresses(now)

	var failed error
	var inputs sync.WaitGroup
	inputs.Go(func() {
		defer stop()
		if err := d.Source.Run(ctx, p); err != nil {
			failed = fmt.Errorf("reading Services: %w", err)
		}
	})
	inputs.Go(func() { d.watchAddresses(ctx, p) })
	if d.Changes != nil {
		inputs.Go(func() { d.watchFirewall(ctx, p) })
	}
	reconcile.NewLoop(d.loopOptions(), d.Kernel, d.Log, d.observer()).Run(ctx, events)
	inputs.Wait()
	return failed
}

func (d Daemon) observer() reconcile.Observer {
	if d.Observer == nil {
		return d.Notices
	}
	return reconcile.All(d.Observer, d.Notices)
}

func (d Daemon) loopOptions() reconcile.Options {
	return reconcile.Options{
		Ownership:     plan.Ownership{Exclude: d.Config.ExcludeCIDRs},
		SyncPeriod:    d.Config.SyncPeriod,
		MinSyncPeriod: d.Config.MinSyncPeriod,
		DrainTimeout:  d.Config.DrainTimeout,
		DrainCheck:    drainCheck,
		AuditPause:    auditPause,
		Predecessor:   takeover.Predecessors{},
	}
}

// watchFirewall has the kernel compared soon after another program changed our rules.
func (d Daemon) watchFirewall(ctx context.Context, p *planner) {
	for ctx.Err() == nil {
		err := d.Changes.Run(ctx, func() { p.send(reconcile.Drifted{}) })
		if ctx.Err() != nil {
			return
		}
		d.Log.Warn("watch on the firewall failed; watching again", zap.Error(err))
		p.send(reconcile.Drifted{})
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// watchAddresses follows the node's addresses and gateways. While the watch is broken, nothing changes.
func (d Daemon) watchAddresses(ctx context.Context, p *planner) {
	for ctx.Err() == nil {
		err := d.Addresses.Watch(ctx, func(e node.Event) {
			p.SetAddresses(e)
			if e.LinkLost {
				d.Log.Warn("device of the Service addresses was deleted or changed; repairing it", zap.String("device", string(state.DummyLink)))
				p.send(reconcile.Drifted{})
			}
		})
		if errors.Is(err, context.Canceled) {
			return
		}
		d.Log.Warn("watch on the node's addresses failed; watching again", zap.Error(err))
		p.send(reconcile.Drifted{}) // the device may have been lost in between
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}
