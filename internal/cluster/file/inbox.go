// SPDX-License-Identifier: Apache-2.0

package file

import (
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// inbox takes events from a watcher at once, whatever its reader does: the watcher can hold its lock while it
// hands over an error, and who then wants to add a watch would wait for ever. It also keeps the kernel's
// queue short.
type inbox struct {
	wake chan struct{} // has something when the inbox has

	mu    sync.Mutex
	paths map[string]bool
	lost  bool // something happened that no event told
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
			// Events were lost, or a watch went away in a way that the kernel reports as an error. What is
			// there is found by looking.
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

// take empties the inbox.
func (b *inbox) take() (map[string]bool, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	paths, lost := b.paths, b.lost
	b.paths, b.lost = map[string]bool{}, false
	return paths, lost
}
