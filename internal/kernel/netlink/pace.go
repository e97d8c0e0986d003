// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"time"
)

// How long a paced reader works, and how long it then pauses.
const (
	workFor  = 4 * time.Millisecond
	pauseFor = 12 * time.Millisecond
)

// pace is when the current stretch of work started.
type pace struct{ started time.Time }

type paceKey struct{}

// Paced returns a context, for one goroutine, that makes long reads pause: they take a quarter of a processor and leave
// the rest to the program. With one processor, the Go runtime lets each goroutine work for 10 ms at a time, so that a
// change waited that long for each goroutine that it passed.
func Paced(ctx context.Context) context.Context {
	return context.WithValue(ctx, paceKey{}, &pace{started: time.Now()})
}

// Unpaced returns ctx without any pauses.
func Unpaced(ctx context.Context) context.Context {
	return context.WithValue(ctx, paceKey{}, (*pace)(nil))
}

// Pause is called between two pieces of a read. If ctx is Paced, it pauses when that is due, or until ctx ends.
func Pause(ctx context.Context) {
	p, _ := ctx.Value(paceKey{}).(*pace)
	if p == nil || time.Since(p.started) < workFor {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pauseFor):
	}
	p.started = time.Now()
}
