// SPDX-License-Identifier: Apache-2.0

// Package file reads Kubernetes objects from the manifests in a directory, as `kubectl get -o yaml` prints them and
// operators write them, and follows all changes of the files. It is for nodes without an API server, for tests and for
// experiments.
//
// An invalid file keeps its last valid objects, and so do all files while the directory cannot be read. Problems are
// reported with their line. Sub-directories are not read.
package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Source is a directory of manifests: *.yaml, *.yml and *.json, unless hidden.
type Source struct {
	Dir    string       // required; while it is missing nothing is reported, not even Complete
	Node   string       // the name of this Node
	Report func(Report) // called from Run for each file that was read; may be nil

	Quiet  time.Duration // without events until files are read, so that half-written ones are rare; 0: 50 ms
	Limit  time.Duration // until files are read in any case after an event; 0: 500 ms
	Rescan time.Duration // between checks of all files, for changes without events; 0: 30 s
}

var _ cluster.Source = Source{}

// Load reads a directory once.
func Load(dir string) (*cluster.Index, []Report) {
	f := newFolder(dir)
	c := f.read(func(string) bool { return true })
	return f.index, c.reports
}

// Run implements cluster.Source. It fails if the kernel cannot watch directories.
func (s Source) Run(ctx context.Context, sink cluster.Sink) error {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return fmt.Errorf("find directory %q: %w", s.Dir, err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch directory %s: %w", dir, err)
	}
	r := &run{Source: s, sink: sink, folder: newFolder(dir), watches: newWatches(dir, watcher), inbox: newInbox()}
	r.Quiet, r.Limit = cmp.Or(s.Quiet, 50*time.Millisecond), cmp.Or(s.Limit, 500*time.Millisecond)
	r.Rescan = cmp.Or(s.Rescan, 30*time.Second)
	if s.Report == nil {
		r.Report = func(Report) {}
	}
	var filler sync.WaitGroup
	filler.Go(func() { r.inbox.fill(watcher) })
	err = errors.Join(r.loop(ctx), watcher.Close())
	filler.Wait()
	return err
}

type run struct {
	Source
	sink    cluster.Sink
	folder  *folder
	watches *watches
	inbox   *inbox
	synced  bool
	burst   burst
}

// loop reads at once, after a burst of events, and after each Rescan.
func (r *run) loop(ctx context.Context) error {
	due := time.NewTimer(0)
	defer due.Stop()
	rescan := time.NewTicker(r.Rescan)
	defer rescan.Stop()
	for {
		more := false
		select {
		case <-ctx.Done():
			return nil
		case <-r.inbox.wake:
			more = r.watches.happened(r.inbox, r.folder.files)
		case <-rescan.C:
			more = r.burst.over() // otherwise a reading is due anyway
		case <-due.C:
			r.burst = burst{}
			again, err := r.read()
			if err != nil {
				return err
			}
			more = again
		}
		if more {
			due.Reset(r.burst.due(time.Now(), r.Quiet, r.Limit))
		}
	}
}

// read reads the files, reports what changed, and reports whether to read again. It watches before it reads, so that it
// misses no change; but only reading shows where links lead.
func (r *run) read() (bool, error) {
	if _, err := r.watches.follow(r.folder.files); err != nil {
		return false, err
	}
	c := r.folder.read(r.watches.take())
	again, err := r.watches.follow(r.folder.files)
	r.watches.all = r.watches.all || again
	r.report(c)
	return again, err
}

func (r *run) report(c change) {
	for _, report := range c.reports {
		r.Report(report)
	}
	c.Report(r.folder.index, r.Node, r.sink)
	if !r.synced && r.folder.away == "" {
		r.synced = true
		r.sink.Listed(cluster.Complete)
	}
}

// burst is a series of events in quick succession.
type burst struct{ first time.Time }

func (b *burst) over() bool { return b.first.IsZero() }

// due returns how long to wait after an event now: quiet, but at most until limit after the first event.
func (b *burst) due(now time.Time, quiet, limit time.Duration) time.Duration {
	if b.over() {
		b.first = now
	}
	return max(0, min(quiet, limit-now.Sub(b.first)))
}
