// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// watches are the watched directories: the one with the manifests, its nearest parent that is there (for when it comes,
// goes or is replaced), and those that symbolic links lead to.
type watches struct {
	dir     string
	watcher *fsnotify.Watcher
	seen    map[string]fs.FileInfo // what a path was when its watch was made
	dirty   map[string]bool        // names of changed files
	all     bool                   // all files may have changed
}

func newWatches(dir string, watcher *fsnotify.Watcher) *watches {
	return &watches{dir: dir, watcher: watcher, seen: map[string]fs.FileInfo{}, dirty: map[string]bool{}}
}

// follow watches the directories that files need now, and reports whether a watch is new.
func (w *watches) follow(files map[string]*manifest) (bool, error) {
	wanted := map[string]bool{w.dir: true, w.above(): true}
	for _, m := range files {
		if m.target != "" {
			wanted[filepath.Dir(m.target)] = true
		}
	}
	for path := range w.seen {
		if !wanted[path] {
			w.drop(path)
		}
	}
	fresh := false
	for path := range wanted {
		made, err := w.watch(path)
		if err != nil {
			return fresh, err
		}
		fresh = fresh || made
	}
	return fresh, nil
}

// above returns the nearest directory above the manifests that is there.
func (w *watches) above() string {
	path := filepath.Dir(w.dir)
	for _, err := os.Stat(path); err != nil && path != "/"; _, err = os.Stat(path) {
		path = filepath.Dir(path)
	}
	return path
}

// watch watches the directory at path and reports whether the watch is new. A replaced directory needs one.
func (w *watches) watch(path string) (bool, error) {
	stat, err := os.Stat(path)
	same := err == nil && w.seen[path] != nil && os.SameFile(stat, w.seen[path])
	if !same {
		w.drop(path)
	}
	if err == nil {
		// Add even if it seems to be watched: a new directory can get the number of the old.
		err = w.watcher.Add(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission) && path != w.dir:
		delete(w.seen, path)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("watch directory %s: %w", path, err)
	}
	w.seen[path] = stat
	return !same, nil
}

// drop ends a watch. That it is gone already is no error.
func (w *watches) drop(path string) {
	if w.seen[path] != nil {
		_ = w.watcher.Remove(path)
		delete(w.seen, path)
	}
}

// happened notes the dirty files, and reports whether there are any.
func (w *watches) happened(in *inbox, files map[string]*manifest) bool {
	paths, lost := in.take()
	w.all = w.all || lost
	for path := range paths {
		w.soil(path, files)
	}
	return w.all || len(w.dirty) > 0
}

func (w *watches) soil(path string, files map[string]*manifest) {
	base, inside := filepath.Base(path), filepath.Dir(path) == w.dir
	if path == w.dir || strings.HasPrefix(w.dir, strings.TrimSuffix(path, "/")+"/") {
		w.all = true
	}
	if inside && isManifest(base) {
		w.dirty[base] = true
	}
	// A ConfigMap volume changes all its files by a rename of ..data.
	volume := inside && strings.HasPrefix(base, "..")
	for file, m := range files {
		if m.target != "" && (volume || m.target == path) {
			w.dirty[file] = true
		}
	}
}

// take returns a function that reports whether a file is dirty, and starts anew.
func (w *watches) take() func(name string) bool {
	dirty, all := w.dirty, w.all
	w.dirty, w.all = map[string]bool{}, false
	return func(name string) bool { return all || dirty[name] }
}

// inbox takes events from a watcher at once. The watcher can hold its lock while it hands over an error, and would
// block a reader that adds a watch. Taking events at once also keeps the kernel's queue short.
type inbox struct {
	wake chan struct{} // has an element when the inbox has

	mu    sync.Mutex
	paths map[string]bool
	lost  bool // something happened without an event
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), paths: map[string]bool{}}
}

// fill runs until the watcher is closed.
func (b *inbox) fill(w *fsnotify.Watcher) {
	for {
		select {
		case event, ok := <-w.Events:
			if !ok {
				return
			}
			b.put(filepath.Clean(event.Name), false)
		case _, ok := <-w.Errors:
			if !ok {
				return
			}
			// Events were lost, or the kernel reported the end of a watch as an error: look at all files.
			b.put("", true)
		}
	}
}

func (b *inbox) put(path string, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paths[path] = true
	b.lost = b.lost || lost
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) take() (map[string]bool, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	paths, lost := b.paths, b.lost
	b.paths, b.lost = map[string]bool{}, false
	return paths, lost
}
