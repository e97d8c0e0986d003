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

// source is where objects come from.
type source struct {
	name     string // for the log
	objects  cluster.Source
	kube     *kube.Source     // nil without an API server
	snapshot *snapshot.Source // nil without a snapshot
}

const (
	// afterReboot is how long the API server may take before a node with an empty kernel serves the snapshot.
	afterReboot = 2 * time.Second
	// afterRestart is the same where a kube-ipvs ran before, whose rows may be newer than its snapshot.
	afterRestart = 15 * time.Second
)

func (s *session) openSource(ctx context.Context) error {
	if dir := s.options.Manifests; dir != "" {
		s.source = source{name: dir, objects: file.Source{Dir: dir, Node: s.node, Report: file.Log(s.log)}}
		return nil
	}
	c, err := kube.Connect(s.config.Client, "kube-ipvs/"+s.options.Version)
	if err != nil {
		return err
	}
	s.events = events.New(c.Events, s.node, s.log)
	live := &kube.Source{Client: c, Node: s.node, Log: s.log}
	s.source = source{name: "API server", objects: live, kube: live}
	if s.config.Snapshot.File == "" {
		return nil
	}
	links, err := s.kernel.Tables().Links.List(ctx)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	patience := afterReboot
	if _, ran := links[state.DummyLink]; ran {
		patience = afterRestart
	}
	s.source.snapshot = &snapshot.Source{
		Live: live, File: s.config.Snapshot.File, Node: s.node, MaxBytes: s.config.Snapshot.MaxBytes, Patience: patience, Log: s.log,
	}
	s.source.objects = s.source.snapshot
	return nil
}

// status returns where the objects come from, for the metrics.
func (s *session) status() metrics.Status {
	m := metrics.Status{Source: "live", Events: metrics.Events(s.events.Counts())}
	if s.source.kube != nil {
		m.Connected = s.source.kube.Status().Connected
	}
	if s.source.snapshot != nil {
		st := s.source.snapshot.Status()
		m.Source, m.SnapshotWritten, m.SnapshotFailing = st.From.String(), st.Written, st.Err != nil
	}
	return m
}

// restored reports whether objects of the snapshot are served, and how old they are.
func (s *source) restored() (age time.Duration, is bool) {
	if s.snapshot == nil {
		return 0, false
	}
	st := s.snapshot.Status()
	return st.Age(time.Now()), st.From == snapshot.Snapshot
}

// Stored returns what is known of a snapshot without reading the objects in it.
func Stored(file string) (cli.Stored, error) {
	h, err := snapshot.Stat(file)
	return cli.Stored{Node: h.Node, Services: h.Services, Age: time.Since(h.Written)}, err
}
