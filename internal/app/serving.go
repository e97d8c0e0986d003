// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/events"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/metrics"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/serve"
)

// serving is the daemon with one configuration, and all that it has open.
type serving struct {
	asked   cli.Daemon
	log     *zap.Logger
	lasting *metrics.Lasting

	config    config.Config // completed by what the kernel is and has
	node      string
	kernel    *linux.Kernel
	reader    *linux.Reader // for audits, so that changes need not wait for them
	addresses *node.Conn
	origin    origin
	events    *events.Recorder // nil: there is no API server to tell
	metrics   *metrics.Metrics
	health    *serve.Health
	tidy      tidy
	closers   []func() error
}

// open opens all that the daemon needs, and takes what the kernel lets it have.
func (s *serving) open(ctx context.Context) error {
	for _, w := range s.asked.Warnings {
		s.log.Warn("configuration", zap.String("warning", w))
	}
	for _, step := range []func(context.Context) error{
		s.openKernel, s.openNode, s.openOrigin, s.openPages,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close closes what is open, the last opened first.
func (s *serving) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}

func (s *serving) closes(c func() error) { s.closers = append(s.closers, c) }

func (s *serving) openKernel(ctx context.Context) (err error) {
	c, err := fitToKernel(s.asked.Config)
	if err != nil {
		return err
	}
	if s.kernel, err = linux.Open(ctx, ours(c)); err != nil {
		return err
	}
	if tools := s.kernel.Rules.Beside(); tools != "" {
		s.log.Warn("a service proxy's rules are there that only other tools see; where they send packets on, they win", zap.String("tools", tools))
	}
	s.closes(s.kernel.Close)
	if s.reader, err = s.kernel.Reader(); err != nil {
		return err
	}
	s.closes(s.reader.Close)
	if c.Kernel.NoNetmap, err = lacksNetmap(ctx, s.kernel.Rules, c); err != nil {
		return err
	}
	if c.Schedulers, err = schedulers(ctx, s.kernel.IPVS, c.Scheduler); err != nil {
		return err
	}
	RaiseLimits(ctx, c, s.log)
	s.config = c
	return nil
}

func (s *serving) openNode(context.Context) (err error) {
	if s.node, err = node.Name(s.config.Hostname); err != nil {
		return err
	}
	if s.addresses, err = node.Open(); err != nil {
		return err
	}
	s.closes(s.addresses.Close)
	return nil
}

// openPages serves what others read of this node. What they read of the kernel's
// counters has a connection of its own.
func (s *serving) openPages(context.Context) error {
	own, err := ipvs.Open()
	if err != nil {
		return err
	}
	s.closes(own.Close)
	s.tidy = newTidy()
	s.metrics = metrics.New(metrics.Options{
		Families: s.config.Families,
		Version:  s.asked.Version,
		Traffic:  s.config.Serving.Traffic,
		Loads:    counters{own, s.tidy},
		Lasting:  s.lasting,
		Status:   s.status,
	})
	s.health = serve.NewHealth(serve.HealthOptions{
		SyncPeriod: s.config.SyncPeriod,
		Families:   s.config.Families,
		Count:      s.metrics.Answered,
		Snapshot:   s.origin.restored,
	})
	pages := serve.Pages{
		Metrics:   s.metrics.Page(),
		Mode:      "ipvs",
		Configz:   func() []byte { return s.asked.Configz },
		Version:   s.asked.Version,
		Started:   time.Now(),
		Profiling: s.config.Serving.Profiling,
	}
	return errors.Join(
		s.servePages(serve.Options{What: "healthz", At: s.config.Serving.Healthz, Pages: s.health.Pages()}, "FailedToStartProxierHealthcheck"),
		s.servePages(serve.Options{What: "metrics", At: s.config.Serving.Metrics, Pages: pages.Mux()}, "FailedToStartMetricServer"),
	)
}

// servePages serves at one address, if there is one.
func (s *serving) servePages(o serve.Options, reason string) error {
	if !o.At.IsValid() || o.At.Port() == 0 {
		return nil
	}
	o.HardFail = s.config.Serving.HardFail
	o.Report = func(err error) {
		if err == nil {
			s.log.Info("port is open after all", zap.String("what", o.What), zap.Stringer("address", o.At))
			return
		}
		s.log.Warn("port can't be opened; trying again", zap.String("what", o.What), zap.Error(err))
	}
	server, err := serve.Start(o)
	if err != nil {
		s.events.Node(corev1.EventTypeWarning, reason, err.Error())
		return err
	}
	s.closes(func() error { server.Close(); return nil })
	return nil
}

// run works until ctx ends.
func (s *serving) run(ctx context.Context) error {
	tables := s.kernel.Tables()
	tables.RealServers = kernel.Spread(tables.RealServers, s.node)
	notices := s.notices()
	ports := Listen(s.config, s.log, s.health.Healthy, notices)
	defer ports.Close()
	s.log.Info("starting", zap.String("node", s.node), zap.String("source", s.origin.name), zap.Stringers("families", s.config.Families))
	s.events.Node(corev1.EventTypeNormal, "Starting", "")
	var telling sync.WaitGroup
	defer telling.Wait()
	if s.events != nil {
		telling.Go(func() { s.events.Run(ctx) })
	}
	err := Daemon{
		Config:    s.config,
		NodeName:  s.node,
		Source:    s.origin.source,
		Addresses: s.addresses,
		Kernel:    reconcile.Kernel{Tables: tables, Flusher: s.kernel, Connections: s.kernel, Reader: &watchman{reader: s.reader, log: s.log, events: s.events}},
		Ports:     ports,
		Observer:  reconcile.All(s.metrics, s.health, s.tidy),
		Placed:    func(p cluster.Place) { s.health.Node(p.Node) },
		Notices:   notices,
		Log:       s.log,
	}.Run(ctx)
	s.log.Info("stopping; the kernel goes on forwarding as it is")
	return err
}

// notices tell of Services where people look for it, if there is an API server.
func (s *serving) notices() *Notices {
	if s.events == nil {
		return nil
	}
	return NewNotices(s.events)
}

// refuse tells of a changed configuration that can't be used.
func (s *serving) refuse(err error) {
	s.lasting.Reloaded(err)
	s.log.Error("changed configuration is refused; going on with the one before", zap.Error(err))
	s.events.Node(corev1.EventTypeWarning, "ConfigurationRefused", fmt.Sprintf("going on with the one before: %v", err))
}
