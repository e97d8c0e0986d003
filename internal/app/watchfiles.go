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

// Configuration files are watched for new content, however it came: a write in place, a file that replaces another, or the
// exchanged symlink of a mounted ConfigMap, which leaves the file's own name as it was and which kube-proxy does not notice.

const (
	// settle is the time from the first event to the look at the files: whoever
	// writes one in several steps is done by then.
	settle = 200 * time.Millisecond

	// period is the time between looks without an event. Some file systems send
	// none, and the kernel drops those that it has no room for.
	period = 30 * time.Second
)

// WatchFiles calls changed each time when a file is not as it was known, until ctx
// ends. A file that is gone is no change: it may be about to be replaced, and
// is compared again when it is back. Should the kernel have no room for another
// watch, a change is seen within half a minute.
func WatchFiles(ctx context.Context, files []cli.File, changed func()) {
	w := watcher{files: slices.Clone(files), period: period}
	w.run(ctx, changed)
}

type watcher struct {
	files  []cli.File
	period time.Duration
	notify *fsnotify.Watcher // nil if the kernel has no room for it
}

func (w *watcher) run(ctx context.Context, changed func()) {
	var events chan fsnotify.Event
	var losses chan error
	if notify, err := fsnotify.NewWatcher(); err == nil {
		defer notify.Close()
		w.notify, events, losses = notify, notify.Events, notify.Errors
	}
	tick := time.NewTicker(w.period)
	defer tick.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	waiting := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
		case <-losses:
		case <-tick.C:
		case <-look.C:
			waiting = false
			if w.look() {
				changed()
			}
			continue
		}
		if !waiting {
			waiting = true
			look.Reset(settle)
		}
	}
}

// look compares the files with what is known of them, and knows them then.
func (w *watcher) look() (changed bool) {
	for i := range w.files {
		f := &w.files[i]
		w.follow(f.Path)
		text, err := os.ReadFile(f.Path)
		if err != nil || bytes.Equal(text, f.Text) {
			continue
		}
		f.Text, changed = text, true
	}
	return changed
}

// follow has the kernel tell of the folder in which the path is, and of that to
// which its symlinks lead: of folders, because a file that takes another's place
// is another file. What is not there can't be watched, and is looked for again.
func (w *watcher) follow(path string) {
	if w.notify == nil {
		return
	}
	_ = w.notify.Add(filepath.Dir(path))
	if target, err := filepath.EvalSymlinks(path); err == nil {
		_ = w.notify.Add(filepath.Dir(target))
	}
}
