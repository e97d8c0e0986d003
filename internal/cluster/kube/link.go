// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Status is how the API server is followed.
type Status struct {
	Connected bool      // it answers all that is asked of it
	Since     time.Time // when Connected became so
	LastEvent time.Time // when it last told of anything; zero: it never did
}

// link is what is known of the connection to the API server, from the fate of requests. It logs when that
// changes, not each try.
type link struct {
	mutex   sync.Mutex
	log     *zap.Logger
	state   Status
	failing map[string]bool // by kind of objects
	working map[string]bool
	silent  bool          // nothing was logged of it yet
	back    chan struct{} // is closed when one of several that failed works again
}

func (l *link) begin(log *zap.Logger) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.log, l.silent = log, true
	l.state.Since = time.Now()
	l.failing, l.working = map[string]bool{}, map[string]bool{}
	l.back = make(chan struct{})
}

func (l *link) status() Status {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.state
}

// heard says that the API server told of something.
func (l *link) heard() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.state.LastEvent = time.Now()
}

// answered says that a request for objects of a kind was answered.
func (l *link) answered(kind string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.state.LastEvent = time.Now()
	l.working[kind] = true
	if delete(l.failing, kind); len(l.failing) > 0 {
		close(l.back)
		l.back = make(chan struct{})
	}
	if l.state.Connected || len(l.failing) > 0 || len(l.working) < kindCount {
		return
	}
	l.log.Info("API server is followed", zap.Duration("after", l.turn(true)))
}

// returns is closed when there is hope for those who wait to ask again.
func (l *link) returns() <-chan struct{} {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.back
}

// failed says that a request for objects of a kind failed.
func (l *link) failed(kind string, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.failing[kind] = true
	if !l.state.Connected && !l.silent {
		l.log.Debug("API server does still not answer", zap.String("kind", kind), zap.Error(err))
		return
	}
	l.log.Warn("API server does not answer; what is known stays, trying again",
		zap.String("kind", kind), zap.Time("lastEvent", l.state.LastEvent), zap.Error(err))
	l.turn(false)
}

// turn notes that the connection is there, or not, and returns how long the contrary held.
func (l *link) turn(connected bool) time.Duration {
	l.silent = false
	was := l.state
	if was.Connected != connected {
		l.state.Connected, l.state.Since = connected, time.Now()
	}
	return time.Since(was.Since)
}
