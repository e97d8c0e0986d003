// SPDX-License-Identifier: Apache-2.0

// Package snapshot keeps the last good objects of a source on disk, so that a node that starts while its API
// server is away still serves what was there.
//
// Source stands between the live source and its user. If the live one does not answer soon, the objects of
// the file are told as Restored: rows are made of them, and none is removed on their word. As soon as the
// live one is complete it alone counts, and what it told is written to the file from then on.
//
// The package knows nothing of what objects mean, and a file that is not whole, not ours or not of this node
// is never used.
package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Source is a live source with a file for when it does not answer. It runs once.
type Source struct {
	Live cluster.Source // required
	File string         // empty: Live is alone
	Node string         // the name of this Node: a file of another one is not used

	// MaxBytes bounds the content of the file. More is not written, and not read either. Zero: 256 MiB.
	MaxBytes int64

	// Patience is how long Live may take to tell all before the file is used. Rows that the kernel still has
	// may be newer than the file: after a restart that is no reboot more patience is better. Zero: 2 s.
	Patience time.Duration

	// Pause is how long changes are collected before they are written. Zero: 10 s. See rest for what else
	// spaces the writes.
	Pause time.Duration

	Log *zap.Logger // nil: nothing is logged

	status ledger
}

var _ cluster.Source = (*Source)(nil)

const (
	defaultMaxBytes = 256 << 20
	defaultPatience = 2 * time.Second
	defaultPause    = 10 * time.Second
)

// Run tells sink of the objects, as cluster.Source says. Its error is Live's: a file that cannot be read or
// written is logged, and Status tells of it.
func (s *Source) Run(ctx context.Context, sink cluster.Sink) error {
	if s.File == "" {
		return s.Live.Run(ctx, sink)
	}
	o := s.settled()
	s.look()
	r := newRelay(sink, func() { s.status.from(Live) })
	w := &writer{options: o, relay: r, status: &s.status}

	until, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	others.Go(func() { s.restore(until, o, r) })
	others.Go(func() { w.run(until) })
	err := s.Live.Run(ctx, r)
	stop()
	others.Wait()
	w.save() // what was told since the last time
	return err
}

// Status says how the snapshot stands. It may be asked at any time and never waits for a sink or a disk.
func (s *Source) Status() Status { return s.status.get() }

// options are a Source's settings, completed.
type options struct {
	file, node      string
	limit           int64
	patience, pause time.Duration
	log             *zap.Logger
}

func (s *Source) settled() options {
	o := options{file: s.File, node: s.Node, limit: s.MaxBytes, patience: s.Patience, pause: s.Pause, log: s.Log}
	if o.limit == 0 {
		o.limit = defaultMaxBytes
	}
	if o.patience == 0 {
		o.patience = defaultPatience
	}
	if o.pause == 0 {
		o.pause = defaultPause
	}
	if o.log == nil {
		o.log = zap.NewNop()
	}
	return o
}

// look takes in how old the file is that an earlier run left. One that cannot be used is reported now, and
// not only when it would be needed.
func (s *Source) look() {
	h, err := Stat(s.File)
	if err == nil {
		err = h.mustBeOf(s.Node)
	}
	switch {
	case err == nil:
		s.status.written(h.Written)
	case !errors.Is(err, fs.ErrNotExist):
		s.status.unusable(err)
	}
}

// restore tells what the file has if Live takes too long.
func (s *Source) restore(ctx context.Context, o options, r *relay) {
	patience := time.NewTimer(o.patience)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return
	case <-r.complete:
		return
	case <-patience.C:
	}
	h, c, err := read(o.file, o.node, o.limit)
	if errors.Is(err, fs.ErrNotExist) {
		o.log.Info("no snapshot to start from; waiting for the live source", zap.String("file", o.file))
		return
	}
	if err != nil {
		s.status.unusable(err)
		o.log.Warn("snapshot is not used; waiting for the live source", zap.Error(err))
		return
	}
	s.status.written(h.Written)
	if r.restore(ctx, c, func() { s.status.from(Snapshot) }) {
		o.log.Info("Services are those of the snapshot until the live source answers", zap.String("file", o.file),
			zap.Int("services", h.Services), zap.Time("written", h.Written), zap.Duration("age", Status{Written: h.Written}.Age(time.Now())))
	}
}
