// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
)

const (
	// settleTime is the time from an event to the comparison: programs may write a file in several steps.
	settleTime = 200 * time.Millisecond

	// comparePeriod is the time between comparisons without an event: some file systems send none.
	comparePeriod = 30 * time.Second
)

// watchFiles calls changed after each change of a file's content, until ctx ends. It finds a write in place, a file
// that replaces another, and the exchanged symlink of a mounted ConfigMap. A missing file is no change.
func watchFiles(ctx context.Context, files []cli.File, changed func()) {
	w := fileWatcher{files: slices.Clone(files), period: comparePeriod}
	w.run(ctx, changed)
}

type fileWatcher struct {
	files  []cli.File
	period time.Duration
	notify *fsnotify.Watcher // nil if the kernel has no room for it
}

func (w *fileWatcher) run(ctx context.Context, changed func()) {
	var events chan fsnotify.Event
	var losses chan error
	if notify, err := fsnotify.NewWatcher(); err == nil {
		defer notify.Close()
		w.notify, events, losses = notify, notify.Events, notify.Errors
	}
	tick := time.NewTicker(w.period)
	defer tick.Stop()
	compare := time.NewTimer(0)
	defer compare.Stop()
	for pending := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-events:
		case <-losses:
		case <-tick.C:
		case <-compare.C:
			pending = false
			if w.compare() {
				changed()
			}
			continue
		}
		if !pending {
			pending = true
			compare.Reset(settleTime)
		}
	}
}

// compare reports whether the content of a file is new, and remembers it.
func (w *fileWatcher) compare() (changed bool) {
	for i := range w.files {
		f := &w.files[i]
		w.watch(f.Path)
		text, err := os.ReadFile(f.Path)
		if err != nil || bytes.Equal(text, f.Text) {
			continue
		}
		f.Text, changed = text, true
	}
	return changed
}

// watch watches the folders of the path and of what its symlinks lead to. A file that replaces another has no watch
// yet. If a folder is missing, the next comparison tries again.
func (w *fileWatcher) watch(path string) {
	if w.notify == nil {
		return
	}
	_ = w.notify.Add(filepath.Dir(path))
	if target, err := filepath.EvalSymlinks(path); err == nil {
		_ = w.notify.Add(filepath.Dir(target))
	}
}
