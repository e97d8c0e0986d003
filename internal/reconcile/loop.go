// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Flusher removes conntrack entries.
type Flusher interface {
	// Flush removes the entries of all flows and returns how many there were.
	Flush(ctx context.Context, flows []state.Flow) (int, error)
}

// Observer looks at the connections of real servers.
type Observer interface {
	// Connections returns those of the real servers of the given virtual
	// servers. The answer may miss some.
	Connections(ctx context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error)
}

// Kernel is all that the loop acts on.
type Kernel struct {
	Tables   kernel.Tables
	Flusher  Flusher
	Observer Observer
}

// Loop is the acting half: one goroutine that does what Core says.
type Loop struct {
	core   *Core
	kernel Kernel
	log    *zap.Logger
	audits int    // so far
	cause  string // of the next delta, for the log

	written int  // rows, so far
	started bool // all that was known at the start has been written
}

// NewLoop returns a Loop over a new Core.
func NewLoop(o Options, k Kernel, log *zap.Logger) *Loop {
	return &Loop{core: NewCore(o), kernel: k, log: log}
}

// eventsPerRound bounds how many waiting events are taken in before the kernel
// is written: a burst becomes one batch, a flood starves nobody.
const eventsPerRound = 4096

// Run works until ctx ends. What is being written then is finished first, and
// the kernel is left as it is.
func (l *Loop) Run(ctx context.Context, events <-chan Event) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			now := time.Now()
			l.step(e, now)
			l.stepWaiting(events, now)
		case <-timer.C:
			l.cause = "time"
		}
		l.settle(ctx)
		if l.core.Begun() {
			timer.Reset(time.Until(l.core.Wake()))
		}
	}
}

func (l *Loop) stepWaiting(events <-chan Event, now time.Time) {
	for range eventsPerRound {
		select {
		case e := <-events:
			l.step(e, now)
		default:
			return
		}
	}
}

func (l *Loop) step(e Event, now time.Time) {
	l.cause = "change"
	for _, c := range l.core.Step(e, now) {
		l.log.Warn("two Services claim one address and port; the older one gets it",
			zap.Stringer("virtualServer", c.Key), zap.Stringer("winner", c.Winner), zap.Stringer("loser", c.Loser))
	}
}

// settle works until nothing is due. An audit and what is done upon it are one
// round.
func (l *Loop) settle(ctx context.Context) {
	// A batch cut off half-way would be mended, but it costs nothing to finish
	// it.
	work := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		w := l.core.Ready(time.Now())
		if w.Empty() {
			l.completeStart()
			return
		}
		if w.Audit {
			work = kernel.NewRound(context.WithoutCancel(ctx))
		}
		o := l.do(work, w)
		l.core.Advance(w, o, time.Now())
	}
}

// completeStart tells once that the start is over, and what it cost: nothing, if
// the kernel was as wished.
func (l *Loop) completeStart() {
	if l.audits > 0 && !l.started {
		l.started = true
		l.log.Info("start completed", zap.Int("written", l.written))
	}
}

// do acts. The parts of a Work come in the order that is safe for packets: a
// flow is flushed after the rows that would make it anew are gone.
func (l *Loop) do(ctx context.Context, w Work) Outcome {
	var o Outcome
	if w.Audit {
		o.Observed, o.ObserveErr = l.kernel.Tables.List(ctx)
		l.audits++
		l.cause = "audit"
		if l.audits == 1 {
			l.cause = "start"
		}
		l.warn("kernel could not be read in full; looking again soon", o.ObserveErr)
		return o
	}
	if w.Delta.Len() > 0 {
		start := time.Now()
		o.Results = l.kernel.Tables.Apply(ctx, w.Delta)
		l.applied(w.Delta, o.Results, time.Since(start))
	}
	if len(w.Flows) > 0 {
		flushed := 0
		flushed, o.FlushErr = l.kernel.Flusher.Flush(ctx, w.Flows)
		l.warn("stale UDP flows could not be flushed; trying again", o.FlushErr)
		if flushed > 0 {
			l.log.Info("flushed stale UDP flows", zap.Int("flows", flushed))
		}
	}
	if len(w.Servers) > 0 {
		o.Connections, o.LookErr = l.kernel.Observer.Connections(ctx, w.Servers)
		l.warn("connections of draining real servers could not be read; looking again", o.LookErr)
	}
	return o
}

func (l *Loop) warn(message string, err error) {
	if err != nil {
		l.log.Warn(message, zap.Error(err))
	}
}

func (l *Loop) applied(d state.Delta, r kernel.Results, took time.Duration) {
	l.written += d.Len()
	failures, failed := r.Failures(maxLogged)
	fields := []zap.Field{zap.String("cause", l.cause), zap.Int("rows", d.Len()), zap.Duration("took", took)}
	fields = append(fields, counts(d)...)
	switch {
	case failed > 0:
		l.log.Warn("kernel refused some rows; trying them again",
			append(fields, zap.Int("refused", failed), zap.Error(errors.Join(failures...)))...)
	case l.cause == "audit":
		l.log.Warn("kernel was not as wished; repaired", fields...)
	default:
		l.log.Info("kernel brought to the wish", fields...)
	}
}

// maxLogged is how many refusals one log line names; the rest are counted.
const maxLogged = 10

// counts are the numbers of touched rows by table, without the zeros.
func counts(d state.Delta) []zap.Field {
	var fields []zap.Field
	for _, table := range []struct {
		name string
		rows int
	}{
		{"sysctls", d.Sysctls.Len()}, {"sets", d.Sets.Len()}, {"entries", d.Entries.Len()},
		{"chains", d.Chains.Len()}, {"jumps", d.Jumps.Len()}, {"links", d.Links.Len()},
		{"virtualServers", d.VirtualServers.Len()}, {"realServers", d.RealServers.Len()},
		{"addresses", d.Addresses.Len()},
	} {
		if table.rows > 0 {
			fields = append(fields, zap.Int(table.name, table.rows))
		}
	}
	return fields
}
