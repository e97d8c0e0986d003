// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"cmp"
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
	Lock    sync.Locker    // held by callers, and when Retries retries: it guards what Try uses
	Try     func(K) error  // tries once
	Report  func(K, error) // under Lock: the first error of a key, and nil when it works again
	Longest time.Duration  // the longest pause; 0: as in package reconcile
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
	o.Longest = cmp.Or(o.Longest, most)
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
	f.timer = time.AfterFunc(f.pause, func() {
		t.Lock.Lock()
		defer t.Lock.Unlock()
		if t.failing[key] == f { // it may have been forgotten while this waited for the lock
			t.Now(key)
		}
	})
	t.Report(key, err)
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
