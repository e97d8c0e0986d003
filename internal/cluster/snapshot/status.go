// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"sync"
	"time"
)

// Status is how a snapshot stands.
type Status struct {
	From Origin

	// Written is when what is in the file was all there was. Zero: there is no file that can be used. A file
	// is not written again while nothing changes: whether the API server would have something new to tell is
	// not known here, and a file that looked younger than its objects would lie after a reboot.
	Written time.Time

	// Err is why the file could last not be read or written; nil once it could.
	Err error
}

// Age is how old the file is; 0 if there is none, or if the clock went back.
func (s Status) Age(now time.Time) time.Duration {
	if s.Written.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.Written))
}

// Origin is where the objects come from that were told.
type Origin uint8

// The origins. The zero value is none: nothing has been told as a whole yet.
const (
	Snapshot Origin = iota + 1 // the file
	Live                       // the live source
)

func (o Origin) String() string {
	switch o {
	case Snapshot:
		return "snapshot"
	case Live:
		return "live"
	}
	return "none"
}

// ledger is a Status that goroutines share.
type ledger struct {
	mutex  sync.Mutex
	status Status
}

func (l *ledger) get() Status {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.status
}

func (l *ledger) from(o Origin) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.status.From = o
}

func (l *ledger) written(at time.Time) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.status.Written, l.status.Err = at, nil
}

// unusable says that the file is no good for a start.
func (l *ledger) unusable(err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.status.Written, l.status.Err = time.Time{}, err
}

// failed says that the file could not be written; the old one stays.
func (l *ledger) failed(err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.status.Err = err
}
