// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"time"
)

// For how long somebody unhurried works, and how long after it rests.
const (
	stretch = 4 * time.Millisecond
	rest    = 12 * time.Millisecond
)

// pace is when the current stretch of work began.
type pace struct{ began time.Time }

type paceKey struct{}

// Unhurried makes those who read much with the context that it returns rest in between: they take a quarter
// of a processor, and the rest of the program has it to itself most of the time. On a machine with one
// processor the Go runtime lets each goroutine work for 10 ms at once, so that a change waited for that time
// at each goroutine it passed. The context is for one goroutine.
func Unhurried(ctx context.Context) context.Context {
	return context.WithValue(ctx, paceKey{}, &pace{began: time.Now()})
}

// Hurried is ctx without any rest.
func Hurried(ctx context.Context) context.Context {
	return context.WithValue(ctx, paceKey{}, (*pace)(nil))
}

// Rest is called between two pieces of what is read. If the context is Unhurried and it is time for a rest,
// it returns after it, or when the context ends.
func Rest(ctx context.Context) {
	p, _ := ctx.Value(paceKey{}).(*pace)
	if p == nil || time.Since(p.began) < stretch {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(rest):
	}
	p.began = time.Now()
}
