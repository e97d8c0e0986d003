// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"sync"
	"time"
)

// The pauses are the same as in package reconcile.
const (
	first = 100 * time.Millisecond
	most  = 30 * time.Second
)

// RetryOptions configure Retries.
type RetryOptions[K comparable] struct {
	// Lock is held by callers of Retries, and by Retries when it retries. It guards what Try uses.
	Lock sync.Locker
	// Try tries once.
	Try func(K) error
	// Report gets the first error of a key, and nil when it works again. It runs under Lock.
	Report func(K, error)
	// Longest is the longest pause. 0: as in package reconcile.
	Longest time.Duration
}

// Retries retries keys that fail.
type Retries[K comparable] struct {
	RetryOptions[K]
	failing map[K]*failure
}

type failure struct {
	timer *time.Timer
	pause time.Duration
}

// NewRetries returns Retries without failing keys.
func NewRetries[K comparable](o RetryOptions[K]) *Retries[K] {
	if o.Longest == 0 {
		o.Longest = most
	}
	return &Retries[K]{RetryOptions: o, failing: map[K]*failure{}}
}

// Now tries key now, and later if that fails.
func (t *Retries[K]) Now(key K) {
	if err := t.Try(key); err != nil {
		t.Failed(key, err)
	} else if t.failing[key] != nil {
		t.Forget(key)
		t.Report(key, nil)
	}
}

// Failed notes that key failed. It is retried after a pause.
func (t *Retries[K]) Failed(key K, err error) {
	if f := t.failing[key]; f != nil {
		f.pause = min(2*f.pause, t.Longest)
		f.timer.Reset(f.pause)
		return
	}
	f := &failure{pause: first}
	t.failing[key] = f
	f.timer = time.AfterFunc(f.pause, func() { t.due(key, f) })
	t.Report(key, err)
}

// due runs on its own goroutine. While it waited for the lock, the key may have been forgotten.
func (t *Retries[K]) due(key K, f *failure) {
	t.Lock.Lock()
	defer t.Lock.Unlock()
	if t.failing[key] == f {
		t.Now(key)
	}
}

// Forget stops retrying key.
func (t *Retries[K]) Forget(key K) {
	if f := t.failing[key]; f != nil {
		f.timer.Stop()
		delete(t.failing, key)
	}
}

// Again retries the failing keys now that may work.
func (t *Retries[K]) Again(maybe func(K) bool) {
	for key := range t.failing {
		if maybe(key) {
			t.Now(key)
		}
	}
}
