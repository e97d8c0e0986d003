// SPDX-License-Identifier: Apache-2.0

// Package file takes Kubernetes objects from the manifests of a directory, as `kubectl get -o yaml` prints
// them and people write them, and follows every change of the files. It is for nodes without an API server,
// for tests and for trying things out.
//
// A file that is broken keeps its last good objects, and so do the files of a directory that is away: what
// cannot be read proves nothing. What is wrong is reported with its line. Sub-directories are not read.
package file

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Source is a directory of manifests: *.yaml, *.yml and *.json, unless hidden.
type Source struct {
	Dir    string       // required; without it nothing is told, not even Synced
	Node   string       // the name of this Node
	Report func(Report) // called from Run for each file that was read; nil: not wanted

	// A reading starts when nothing happened to the files for Quiet, so that files are seldom read
	// half-written, but not later than Limit after the first event. Zero: 50 ms, 500 ms.
	Quiet, Limit time.Duration

	// All files are looked at after each Rescan, for what no event tells (a network file system, a link
	// behind a link). Zero: 30 s.
	Rescan time.Duration
}

var _ cluster.Source = Source{}

// Load reads a directory once.
func Load(dir string) (*cluster.Index, []Report) {
	f := newFolder(dir)
	c := f.read(func(string) bool { return true })
	return f.index, c.reports
}

// Run tells sink of the objects, as cluster.Source says. It ends with an error if the kernel cannot watch
// directories.
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
	r.Quiet, r.Limit = orDefault(s.Quiet, 50*time.Millisecond), orDefault(s.Limit, 500*time.Millisecond)
	r.Rescan = orDefault(s.Rescan, 30*time.Second)
	if s.Report == nil {
		r.Report = func(Report) {}
	}
	var filler sync.WaitGroup
	filler.Go(func() { r.inbox.fill(watcher) })
	err = errors.Join(r.loop(ctx), watcher.Close())
	filler.Wait()
	return err
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// run is a Source at work.
type run struct {
	Source
	sink    cluster.Sink
	folder  *folder
	watches *watches
	inbox   *inbox
	synced  bool
	burst   burst
}

// loop reads when it is time to: at once, when a burst of events is over, and now and then.
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
			more = r.burst.over() // or else a reading is coming anyway
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

// read reads the files, tells what changed, and says whether to read again. Watches are made before files are
// read, so that no change falls between. Only where links lead is known later.
func (r *run) read() (bool, error) {
	if _, err := r.watches.follow(r.folder.files); err != nil {
		return false, err
	}
	c := r.folder.read(r.watches.take())
	again, err := r.watches.follow(r.folder.files)
	r.watches.all = r.watches.all || again
	r.tell(c)
	return again, err
}

// tell tells of the Nodes first: what Services mean depends on them.
func (r *run) tell(c change) {
	for _, report := range c.reports {
		r.Report(report)
	}
	if c.nodes {
		r.sink.Place(r.folder.index.Place(r.Node))
	}
	keys := slices.SortedFunc(maps.Keys(c.services), cluster.CompareKeys)
	for _, gone := range []bool{true, false} { // first: others may have their addresses now
		for _, key := range keys {
			if r.folder.index.Has(key) != gone {
				r.sink.Service(key, r.folder.index.Objects(key))
			}
		}
	}
	if !r.synced && r.folder.away == "" {
		r.synced = true
		r.sink.Listed(cluster.Complete)
	}
}

// burst is a number of events shortly after each other.
type burst struct{ first time.Time }

// over says whether there is no burst now.
func (b *burst) over() bool { return b.first.IsZero() }

// due says how long to wait after an event now: until it is quiet, but not much longer after the first one.
func (b *burst) due(now time.Time, quiet, limit time.Duration) time.Duration {
	if b.over() {
		b.first = now
	}
	return max(0, min(quiet, limit-now.Sub(b.first)))
}
