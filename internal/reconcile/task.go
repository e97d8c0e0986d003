// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Task brings the kernel to a desired state once, for commands: by the same decisions and in the same order as Loop
// keeps it there.
type Task struct {
	Options Options
	Kernel  Kernel

	// Done is called after each change. It may be nil.
	Done func(state.Delta, kernel.Results)

	// Leave is not to wait for connections to end: real servers that still have some stay, with weight 0.
	Leave bool
}

// looks is how often a table that can't be read is tried.
const looks = 3

// Run works until nothing is left to do. Its error names rows that failed to the end; ctx.Err() says that it was
// stopped before.
func (t Task) Run(ctx context.Context, events ...Event) error {
	work, done := finishing(ctx)
	defer done()
	core := NewCore(t.Options)
	for _, e := range events {
		core.Step(e, time.Now())
	}
	r := taskProgress{task: t, core: core}
	for ctx.Err() == nil {
		w := core.Ready(time.Now())
		switch {
		case w.Empty() && r.over():
			return r.outcome()
		case w.Empty():
			r.sleep(ctx)
			continue
		}
		o := t.do(work, w)
		core.Advance(w, o, time.Now())
		r.take(w, o)
	}
	return ctx.Err()
}

func (t Task) do(ctx context.Context, w Work) Outcome {
	var o Outcome
	if w.Audit {
		o.Observed, o.Reals, o.ObserveErr = t.Kernel.Tables.Observe(ctx)
		return o
	}
	if w.Delta.Len() > 0 {
		o.Results = t.Kernel.Tables.Apply(ctx, w.Delta)
		if t.Done != nil {
			t.Done(w.Delta, o.Results)
		}
	}
	if len(w.Flows) > 0 {
		_, o.FlushErr = t.Kernel.Flusher.Flush(ctx, w.Flows)
	}
	if len(w.Servers) > 0 {
		o.Connections, o.LookErr = t.Kernel.Connections.Connections(ctx, w.Servers)
	}
	return o
}

// grace is how long what has been started may go on after ctx ends. A batch cut off half-way would be repaired, but it
// mostly costs nothing to finish it; only an answer that never comes is not waited for.
const grace = 5 * time.Second

// finishing returns a context that ends grace after ctx.
func finishing(ctx context.Context) (work context.Context, done context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return work, func() {
		stop()
		cancel()
	}
}

// taskProgress is how far a task is.
type taskProgress struct {
	task   Task
	core   *Core
	looked bool // at connections
	blind  int  // audits in a row that could not read all
	unread error
	failed []error // of the last change
	flush  error
	look   error
}

func (r *taskProgress) take(w Work, o Outcome) {
	if w.Audit {
		r.unread = o.ObserveErr
		r.blind++
		if o.ObserveErr == nil {
			r.blind = 0
		}
		return
	}
	if w.Delta.Len() > 0 {
		const named = 10
		var all int
		r.failed, all = o.Results.Failures(named)
		if more := all - len(r.failed); more > 0 {
			r.failed = append(r.failed, fmt.Errorf("and %d more rows", more))
		}
	}
	if len(w.Flows) > 0 {
		r.flush = o.FlushErr
	}
	if len(w.Servers) > 0 {
		r.looked, r.look = true, o.LookErr
	}
}

// over reports whether there is nothing to wait for.
func (r *taskProgress) over() bool {
	drains := r.core.drains.book.Len() > 0 && (!r.task.Leave || !r.looked || len(r.core.drains.round) > 0)
	return !drains && !r.core.awaited() && (r.unread == nil || r.blind >= looks)
}

func (r *taskProgress) outcome() error {
	err := errors.Join(r.unread, r.flush, r.look)
	if r.core.refused() {
		err = errors.Join(append(r.failed, err)...)
	}
	return err
}

func (r *taskProgress) sleep(ctx context.Context) {
	timer := time.NewTimer(time.Until(r.core.Wake()))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
