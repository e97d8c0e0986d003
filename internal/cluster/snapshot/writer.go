// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// writer writes what Live told to the file, apart from Live's goroutine.
type writer struct {
	options
	relay  *relay
	status *ledger

	saved   uint64    // the version that is in the file
	next    time.Time // not to be written before
	trouble string    // what was logged last
}

const (
	// share is how much longer the rest is than the write before it: 5 % of one processor, whatever the size
	// of the cluster.
	share = 20
	// large is a file that is not written more often than every largeRest: a disk has only so many writes in
	// it.
	large     = 1 << 20
	largeRest = time.Minute
)

// run writes after changes until ctx ends.
func (w *writer) run(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.relay.changed:
		}
		due.Reset(max(w.pause, time.Until(w.next)))
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		w.save()
	}
}

// save writes what is not in the file yet. A file that cannot be written leaves the old one where it is, also
// if there are too many objects for it: most of what an old one knows is still there, on its word nothing is
// removed, and its age is told. Without it a node would serve nothing after a reboot.
func (w *writer) save() {
	c, version := w.relay.current(w.saved)
	if version == w.saved {
		return
	}
	began := time.Now()
	h, err := write(w.file, Header{Node: w.node, Written: began}, w.limit, c)
	ended := time.Now()
	w.next = ended.Add(rest(w.pause, ended.Sub(began), h.size(), err))
	if err != nil {
		w.failed(err)
		return
	}
	w.saved = version
	w.status.written(began)
	if w.trouble != "" {
		w.trouble = ""
		w.log.Info("snapshot is written again", zap.String("file", w.file))
	}
	w.log.Debug("snapshot is written", zap.Int("services", h.Services), zap.Int64("bytes", h.size()), zap.Duration("took", ended.Sub(began)))
}

// failed reports an error once, however often it comes, and has the write tried again.
func (w *writer) failed(err error) {
	w.status.failed(err)
	if w.trouble != err.Error() {
		w.trouble = err.Error()
		w.log.Warn("snapshot is not written; the last one stays and is tried again", zap.Error(err))
	}
	w.relay.wake()
}

// rest is how long nothing is written after a write. One write has all objects in it, however little changed:
// it costs a cluster and not a change. So the time between two grows with what one costs, and what changes
// all the time costs no more in a large cluster than in a small one.
func rest(pause, took time.Duration, size int64, err error) time.Duration {
	d := max(pause, share*took)
	if size > large || err != nil {
		d = max(d, largeRest)
	}
	return d
}
