// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/file"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/kube"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/snapshot"
	"github.com/kube-ipvs/kube-ipvs/internal/events"
	"github.com/kube-ipvs/kube-ipvs/internal/metrics"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// origin is where objects come from.
type origin struct {
	name   string // for the log
	source cluster.Source
	kube   *kube.Source     // nil: no API server
	stored *snapshot.Source // nil: no snapshot
}

const (
	// afterReboot is how long the API server may take before a node whose kernel
	// is empty serves what the snapshot tells.
	afterReboot = 2 * time.Second
	// afterRestart is the same where a kube-ipvs worked before: the kernel has
	// what that one knew, which may be more than it had time to write down.
	afterRestart = 15 * time.Second
)

func (s *serving) openOrigin(ctx context.Context) error {
	if dir := s.asked.Manifests; dir != "" {
		s.origin = origin{name: dir, source: file.Source{Dir: dir, Node: s.node, Report: file.Log(s.log)}}
		return nil
	}
	c, err := kube.Connect(s.config.Client, "kube-ipvs/"+s.asked.Version)
	if err != nil {
		return err
	}
	s.events = events.New(c.Events, s.node, s.log)
	live := &kube.Source{Client: c, Node: s.node, Log: s.log}
	s.origin = origin{name: "API server", source: live, kube: live}
	if s.config.Snapshot.File == "" {
		return nil
	}
	links, err := s.kernel.Tables().Links.List(ctx)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	patience := afterReboot
	if _, worked := links[state.DummyLink]; worked {
		patience = afterRestart
	}
	s.origin.stored = &snapshot.Source{
		Live: live, File: s.config.Snapshot.File, Node: s.node, MaxBytes: s.config.Snapshot.MaxBytes, Patience: patience, Log: s.log,
	}
	s.origin.source = s.origin.stored
	return nil
}

// status is where the objects come from, for the metrics.
func (s *serving) status() metrics.Status {
	m := metrics.Status{Source: "live", Events: metrics.Events(s.events.Counts())}
	if s.origin.kube != nil {
		m.Connected = s.origin.kube.Status().Connected
	}
	if s.origin.stored != nil {
		st := s.origin.stored.Status()
		m.Source, m.SnapshotWritten, m.SnapshotFailing = st.From.String(), st.Written, st.Err != nil
	}
	return m
}

// restored says whether objects of the snapshot are served, and how old they are.
func (o *origin) restored() (age time.Duration, is bool) {
	if o.stored == nil {
		return 0, false
	}
	st := o.stored.Status()
	return st.Age(time.Now()), st.From == snapshot.Snapshot
}

// Stored tells of the objects in a snapshot.
func Stored(file string) (cli.Stored, error) {
	h, err := snapshot.Stat(file)
	return cli.Stored{Node: h.Node, Services: h.Services, Age: time.Since(h.Written)}, err
}
