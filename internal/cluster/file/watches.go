// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watches are the directories that are watched for changes: the one with the manifests, the nearest one above
// it (which tells when it goes, comes or is replaced), and those that symbolic links lead to.
type watches struct {
	dir     string
	watcher *fsnotify.Watcher
	seen    map[string]fs.FileInfo // what a watched path was when the watch was made
	dirty   map[string]bool        // names of files that something happened to
	all     bool                   // something happened to all of them
}

func newWatches(dir string, watcher *fsnotify.Watcher) *watches {
	return &watches{dir: dir, watcher: watcher, seen: map[string]fs.FileInfo{}, dirty: map[string]bool{}}
}

// follow watches what must be watched now: with links, as they were read, to the names of the files that are
// links. It says whether there is a new watch, before which something may have happened unseen.
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

// above is the nearest directory above the manifests that is there.
func (w *watches) above() string {
	path := filepath.Dir(w.dir)
	for path != filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			break
		}
		path = filepath.Dir(path)
	}
	return path
}

// watch watches what is at path now, and says whether that is new. The kernel watches directories, not paths:
// one that was replaced needs a new watch.
func (w *watches) watch(path string) (bool, error) {
	stat, err := os.Stat(path)
	same := err == nil && w.seen[path] != nil && os.SameFile(stat, w.seen[path])
	if !same {
		w.drop(path)
	}
	if err == nil {
		// Adding one that is there costs nothing, and one that seems to be there may not be: a new directory
		// can have the number of the old.
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

// drop ends a watch. That there is none any more is what it is for.
func (w *watches) drop(path string) {
	if w.seen[path] != nil {
		_ = w.watcher.Remove(path)
		delete(w.seen, path)
	}
}

// happened notes which files are dirty because of what came in, and says whether any is.
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

// take returns a function that says which files are dirty, and starts anew.
func (w *watches) take() func(name string) bool {
	dirty, all := w.dirty, w.all
	w.dirty, w.all = map[string]bool{}, false
	return func(name string) bool { return all || dirty[name] }
}
