// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"slices"
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
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/metrics"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/serve"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// session is the daemon with one configuration, and everything that it has open.
type session struct {
	options cli.Daemon
	log     *zap.Logger
	lasting *metrics.Lasting

	config    config.Config // completed by what the kernel has
	node      string
	kernel    *linux.Kernel
	reader    *linux.Reader // for audits, so that changes do not wait for them
	addresses *node.Conn
	changes   *nftables.Watch // nil: the firewall has no events
	source    source
	events    *events.Recorder // nil without an API server
	metrics   *metrics.Metrics
	health    *serve.Health
	releaser  memoryReleaser
	closers   []func() error
}

// open opens everything that the daemon needs.
func (s *session) open(ctx context.Context) error {
	for _, w := range s.options.Warnings {
		s.log.Warn("configuration", zap.String("warning", w))
	}
	for _, step := range []func(context.Context) error{s.openKernel, s.openNode, s.openSource, s.openServers} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close closes in reverse order.
func (s *session) close() error {
	var err error
	for _, c := range slices.Backward(s.closers) {
		err = errors.Join(err, c())
	}
	return err
}

func (s *session) closeLater(c func() error) { s.closers = append(s.closers, c) }

func (s *session) openKernel(ctx context.Context) (err error) {
	c, err := completeConfig(s.options.Config)
	if err != nil {
		return err
	}
	if c.Firewall, err = chooseFirewall(ctx, c, s.log); err != nil {
		return err
	}
	if s.kernel, err = linux.Open(ctx, ours(c)); err != nil {
		return err
	}
	s.closeLater(s.kernel.Close)
	s.warnOfRules()
	if s.reader, err = s.kernel.Reader(); err != nil {
		return err
	}
	s.closeLater(s.reader.Close)
	if s.changes, err = s.kernel.Watch(); err != nil {
		return err
	}
	if s.changes != nil {
		s.closeLater(s.changes.Close)
	}
	if c.Firewall == state.OnIPTables {
		if c.Kernel.NoNetmap, err = lacksNetmap(ctx, s.kernel.Rules, c); err != nil {
			return err
		}
	}
	if c.Schedulers, err = schedulers(ctx, s.kernel.IPVS, c.Scheduler); err != nil {
		return err
	}
	if err := linux.SetOOMScore(c.OOMScoreAdj); err != nil {
		s.log.Warn("could not set the OOM score", zap.Error(err))
	}
	raiseConntrackMax(ctx, c, s.log)
	s.config = c
	return nil
}

// warnOfRules logs which rules of a service proxy are out of reach.
func (s *session) warnOfRules() {
	if s.kernel.Rules != nil && s.kernel.Rules.Beside() != "" {
		s.log.Warn("other iptables tools show rules of a service proxy; where those forward packets, they win", zap.String("tools", s.kernel.Rules.Beside()))
	}
	if err := s.kernel.Beyond(); err != nil {
		s.log.Warn("rules of a service proxy may be left in iptables, and can't be removed without its tools; run the image with iptables once", zap.Error(err))
	}
}

func (s *session) openNode(context.Context) (err error) {
	if s.node, err = node.Name(s.config.Hostname); err != nil {
		return err
	}
	if s.addresses, err = node.Open(); err != nil {
		return err
	}
	s.closeLater(s.addresses.Close)
	return nil
}

// openServers starts the HTTP servers for health and metrics.
func (s *session) openServers(context.Context) error {
	counters, err := ipvs.Open() // read while the other connection writes
	if err != nil {
		return err
	}
	s.closeLater(counters.Close)
	s.releaser = newMemoryReleaser()
	s.metrics = metrics.New(metrics.Options{
		Families: s.config.Families,
		Version:  s.options.Version,
		Traffic:  s.config.Serving.Traffic,
		Loads:    releasingLoads{counters, s.releaser},
		Lasting:  s.lasting,
		Status:   s.status,
	})
	s.health = serve.NewHealth(serve.HealthOptions{
		SyncPeriod: s.config.SyncPeriod,
		Families:   s.config.Families,
		Count:      s.metrics.Answered,
		Snapshot:   s.source.restored,
	})
	pages := serve.Pages{
		Metrics:   s.metrics.Page(),
		Mode:      "ipvs",
		Configz:   func() []byte { return s.options.Configz },
		Version:   s.options.Version,
		Started:   time.Now(),
		Profiling: s.config.Serving.Profiling,
	}
	return errors.Join(
		s.startServer(serve.Options{What: "healthz", At: s.config.Serving.Healthz, Pages: s.health.Pages()}, "FailedToStartProxierHealthcheck"),
		s.startServer(serve.Options{What: "metrics", At: s.config.Serving.Metrics, Pages: pages.Mux()}, "FailedToStartMetricServer"),
	)
}

// startServer starts a server if it has an address. The event has the given reason if that fails.
func (s *session) startServer(o serve.Options, reason string) error {
	if !o.At.IsValid() || o.At.Port() == 0 {
		return nil
	}
	o.HardFail = s.config.Serving.HardFail
	o.Report = func(err error) {
		if err == nil {
			s.log.Info("port opened", zap.String("what", o.What), zap.Stringer("address", o.At))
			return
		}
		s.log.Warn("could not open port; trying again", zap.String("what", o.What), zap.Error(err))
	}
	server, err := serve.Start(o)
	if err != nil {
		s.events.Node(corev1.EventTypeWarning, reason, err.Error())
		return err
	}
	s.closeLater(func() error { server.Close(); return nil })
	return nil
}

func (s *session) daemon(notices *Notices, ports Ports) Daemon {
	tables := s.kernel.Tables()
	tables.RealServers = kernel.Spread(tables.RealServers, s.node)
	audits := &auditReader{reader: s.reader, log: s.log, events: s.events}
	d := Daemon{
		Config:    s.config,
		NodeName:  s.node,
		Source:    s.source.objects,
		Addresses: s.addresses,
		Kernel:    reconcile.Kernel{Tables: tables, Flusher: s.kernel, Connections: s.kernel, Reader: audits},
		Ports:     ports,
		Observer:  reconcile.All(s.metrics, s.health, s.releaser),
		Notices:   notices,
		Placed:    func(p cluster.Place) { s.health.Node(p.Node) },
		Log:       s.log,
	}
	if s.changes != nil {
		d.Changes = s.changes
	}
	return d
}
