// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Status describes the connection to the API server.
type Status struct {
	Connected bool      // it answers all requests
	Since     time.Time // when Connected became so
	LastEvent time.Time // when it last sent anything; zero: never
}

// link tracks the connection to the API server by the results of requests. It logs changes, not each try.
type link struct {
	mutex   sync.Mutex
	log     *zap.Logger
	state   Status
	failing map[string]bool // by kind of objects
	working map[string]bool
	silent  bool          // nothing was logged yet
	back    chan struct{} // closed when one of several failed kinds works again
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

func (l *link) heard() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.state.LastEvent = time.Now()
}

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
	l.log.Info("connected to API server", zap.Duration("after", l.turn(true)))
}

// returns returns a channel that is closed when it is worth asking again.
func (l *link) returns() <-chan struct{} {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.back
}

func (l *link) failed(kind string, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.failing[kind] = true
	if !l.state.Connected && !l.silent {
		l.log.Debug("API server still unreachable", zap.String("kind", kind), zap.Error(err))
		return
	}
	l.log.Warn("API server does not answer; keeping what is known and retrying",
		zap.String("kind", kind), zap.Time("lastEvent", l.state.LastEvent), zap.Error(err))
	l.turn(false)
}

// turn notes the new state of the connection, and returns how long the old one lasted.
func (l *link) turn(connected bool) time.Duration {
	l.silent = false
	was := l.state
	if was.Connected != connected {
		l.state.Connected, l.state.Since = connected, time.Now()
	}
	return time.Since(was.Since)
}
