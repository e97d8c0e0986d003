// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// writer writes what Live reported to the file, on its own goroutine.
type writer struct {
	*Source
	relay   *relay
	saved   uint64    // the version in the file
	next    time.Time // no write before
	trouble string    // the last logged error
}

const (
	// share is how much longer the rest is than the write before: 5 % of one processor.
	share = 20
	// A file larger than large is written at most every largeRest, to spare the disk.
	large     = 1 << 20
	largeRest = time.Minute
)

func (w *writer) run(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.relay.changed:
		}
		due.Reset(max(w.Pause, time.Until(w.next)))
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		w.save()
	}
}

// save writes what is not in the file yet. If that fails, also because there are too many objects, the old file stays:
// most of its objects still exist, nothing is removed because of it, and its age is reported. Without it a node would
// serve nothing after a reboot.
func (w *writer) save() {
	c, version := w.relay.current(w.saved)
	if version == w.saved {
		return
	}
	began := time.Now()
	h, err := write(w.File, Header{Node: w.Node, Written: began}, w.MaxBytes, c)
	ended := time.Now()
	w.next = ended.Add(rest(w.Pause, ended.Sub(began), h.size(), err))
	if err != nil {
		w.failed(err)
		return
	}
	w.saved = version
	w.status.found(began, nil)
	if w.trouble != "" {
		w.trouble = ""
		w.Log.Info("snapshot written again", zap.String("file", w.File))
	}
	w.Log.Debug("snapshot written", zap.Int("services", h.Services), zap.Int64("bytes", h.size()), zap.Duration("took", ended.Sub(began)))
}

// failed reports an error once, and triggers another write.
func (w *writer) failed(err error) {
	w.status.failed(err)
	if w.trouble != err.Error() {
		w.trouble = err.Error()
		w.Log.Warn("cannot write snapshot; keeping the last one and retrying", zap.Error(err))
	}
	w.relay.wake()
}

// rest returns how long to wait after a write. A write has all objects in it, however little changed, so the wait grows
// with what a write costs.
func rest(pause, took time.Duration, size int64, err error) time.Duration {
	d := max(pause, share*took)
	if size > large || err != nil {
		d = max(d, largeRest)
	}
	return d
}
