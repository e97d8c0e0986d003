// SPDX-License-Identifier: Apache-2.0

// Package snapshot keeps the last objects of a source on disk, so that a node that starts while its API server is away
// still serves.
//
// Source wraps the live source. If that does not answer soon, the objects of the file are reported as Restored: their
// rows are written, and none is removed because of them. Once the live source is complete, only it counts, and its
// objects are written to the file from then on.
//
// A file that is damaged, or of another node, is never used.
package snapshot

import (
	"cmp"
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
	Live     cluster.Source // required
	File     string         // empty: only Live is used
	Node     string         // the name of this Node; files of others are not used
	MaxBytes int64          // limit of the content of the file; 0: 256 MiB
	Pause    time.Duration  // how long changes are collected before a write; 0: 10 s. See rest.
	Log      *zap.Logger    // nil: no log

	// Patience is how long Live may take before the file is used. After a restart without reboot the kernel's rows may
	// be newer than the file, so more patience is better. Zero: 2 s.
	Patience time.Duration

	status ledger
}

var _ cluster.Source = (*Source)(nil)

const defaultMaxBytes = 256 << 20

// Run implements cluster.Source. Its error is Live's: errors of the file are logged, and in Status.
func (s *Source) Run(ctx context.Context, sink cluster.Sink) error {
	if s.File == "" {
		return s.Live.Run(ctx, sink)
	}
	s.MaxBytes, s.Log = cmp.Or(s.MaxBytes, defaultMaxBytes), cmp.Or(s.Log, zap.NewNop())
	s.Patience, s.Pause = cmp.Or(s.Patience, 2*time.Second), cmp.Or(s.Pause, 10*time.Second)
	s.look()
	r := newRelay(sink, func() { s.status.from(Live) })
	w := &writer{Source: s, relay: r}
	until, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	others.Go(func() { s.restore(until, r) })
	others.Go(func() { w.run(until) })
	err := s.Live.Run(ctx, r)
	stop()
	others.Wait()
	w.save() // what was reported since the last time
	return err
}

// Status returns the state of the snapshot, without waiting for a sink or a disk.
func (s *Source) Status() Status { return s.status.get() }

// look reads the age of the file, and reports an unusable one now rather than when it is needed.
func (s *Source) look() {
	h, err := Stat(s.File)
	if err == nil {
		err = h.mustBeOf(s.Node)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.status.found(h.Written, err)
	}
}

// restore reports the content of the file if Live takes too long.
func (s *Source) restore(ctx context.Context, r *relay) {
	patience := time.NewTimer(s.Patience)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return
	case <-r.complete:
		return
	case <-patience.C:
	}
	h, c, err := read(s.File, s.Node, s.MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		s.Log.Info("no snapshot to start from; waiting for the live source", zap.String("file", s.File))
		return
	}
	s.status.found(h.Written, err)
	if err != nil {
		s.Log.Warn("snapshot cannot be used; waiting for the live source", zap.Error(err))
	} else if r.restore(ctx, c, func() { s.status.from(Snapshot) }) {
		s.Log.Info("serving the snapshot until the live source answers", zap.String("file", s.File),
			zap.Int("services", h.Services), zap.Time("written", h.Written), zap.Duration("age", Status{Written: h.Written}.Age(time.Now())))
	}
}

// Status is the state of a snapshot.
type Status struct {
	From Origin

	// Written is when the content of the file was complete. Zero: there is no usable file. The file is not written
	// again while nothing changes: Written is the age of its objects, not of a write.
	Written time.Time

	// Err is the error of the last read or write of the file; nil: it succeeded.
	Err error
}

// Age returns the age of the file; 0 if there is none, or if the clock went back.
func (s Status) Age(now time.Time) time.Duration {
	if s.Written.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.Written))
}

// Origin is the source of the reported objects.
type Origin uint8

// The origins. The zero value is none: nothing was reported as a whole yet.
const (
	Snapshot Origin = iota + 1 // the file
	Live                       // the live source
)

func (o Origin) String() string { return [...]string{"none", "snapshot", "live"}[o] }

// ledger is a Status that goroutines share.
type ledger struct {
	mutex  sync.Mutex
	status Status
}

func (l *ledger) get() Status {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.status
}

func (l *ledger) from(o Origin) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.status.From = o
}

// found notes the age of the file, or why it cannot be used for a start.
func (l *ledger) found(written time.Time, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.status.Written, l.status.Err = written, err; err != nil {
		l.status.Written = time.Time{}
	}
}

// failed notes that the file could not be written; the old one stays.
func (l *ledger) failed(err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.status.Err = err
}
