// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"sync"
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

// ConnectionReader looks at the connections of real servers.
type ConnectionReader interface {
	// Connections returns those of the real servers of the given virtual servers. The answer may miss some.
	Connections(ctx context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error)
}

// Lister reads all tables, as kernel.Tables.Observe does, over connections of its own: it may be called while they are
// written.
type Lister interface {
	Observe(ctx context.Context) (state.State, state.Packed, error)
}

// Kernel is all that the loop acts on.
type Kernel struct {
	Tables      kernel.Tables
	Flusher     Flusher
	Connections ConnectionReader
	Reader      Lister // nil: changes wait while the tables are listed
}

// Loop is the acting half: one goroutine that does what Core says.
type Loop struct {
	core     *Core
	kernel   Kernel
	log      *zap.Logger
	reporter *reporter
	pause    time.Duration // from one write to the next
	audits   int           // so far
	cause    Cause         // of the next delta

	listed     chan listing // the concurrent audit, when it has ended
	concurrent sync.WaitGroup

	written   int       // rows, so far
	lastWrite time.Time // its end
	started   bool      // all that was known at the start has been written
	displaced []Displaced
}

// listing is a concurrent audit that has ended.
type listing struct {
	work    Work
	outcome Outcome
	began   time.Time
}

// NewLoop returns a Loop over a new Core, which reports to observer; nil: to none.
func NewLoop(o Options, k Kernel, log *zap.Logger, observer Observer) *Loop {
	if observer == nil {
		observer = All()
	}
	core := NewCore(o)
	return &Loop{
		core: core, kernel: k, log: log, reporter: newReporter(core, observer), pause: o.MinSyncPeriod, cause: CauseTime,
		listed: make(chan listing, 1),
	}
}

// eventsPerRound bounds how many waiting events are taken in before the kernel is written: a burst becomes one batch,
// and a flood starves no write.
const eventsPerRound = 4096

// Run works until ctx ends. What is being written then is finished first, if that takes no longer than grace, and the
// kernel is left as it is.
func (l *Loop) Run(ctx context.Context, events <-chan Event) {
	work, done := finishing(ctx)
	defer done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.concurrent.Wait()
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			now = time.Now()
			l.cause = CauseChange
			l.step(e, now)
			l.stepWaiting(events, now)
		case a := <-l.listed:
			now = time.Now()
			l.advance(a.work, a.outcome, a.began, now)
		case <-timer.C:
			now = time.Now()
		}
		if !l.core.Started() {
			continue
		}
		if early := l.lastWrite.Add(l.pause).Sub(now); !l.lastWrite.IsZero() && early > 0 {
			timer.Reset(early)
			continue
		}
		now = l.settle(ctx, work, events, now)
		timer.Reset(l.core.Wake().Sub(now))
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
	t := l.core.Step(e, now)
	l.reporter.received(e, t, now)
	for _, c := range t.Conflicts {
		l.log.Warn("two Services claim one address and port",
			zap.Stringer("virtualServer", c.Key), zap.Stringer("winner", c.Winner), zap.Stringer("winnersRight", c.WinnerRank),
			zap.Stringer("loser", c.Loser), zap.Stringer("losersRight", c.LoserRank), zap.Bool("healthCheck", c.HealthCheck))
	}
}

// settle works until nothing is due, and returns when that was. An audit alone and what is done upon it are one round.
// Events that come while a large change is being written are taken in until all of that change is written, so that
// there is an end.
//
// The clock is read no more often than needed: where the kernel has to be asked for the time, that is most of the cost
// of a small change. What has been started is done in work, which ends later than ctx.
func (l *Loop) settle(ctx, work context.Context, events <-chan Event, now time.Time) time.Time {
	round := work
	large := l.core.Latest()
	for ctx.Err() == nil {
		w := l.core.Ready(now)
		if w.Empty() {
			l.cause = CauseTime
			l.completeStart()
			l.reporter.settled(now)
			return now
		}
		began := time.Now()
		if w.Concurrent && l.kernel.Reader != nil {
			l.listConcurrently(ctx, w, began)
			continue
		}
		if w.Audit {
			round = kernel.NewRound(work)
		}
		var o Outcome
		o, now = l.do(round, w, began)
		l.advance(w, o, began, now)
		if w.Audit {
			large = l.core.Latest()
		}
		if l.core.Behind(large) {
			l.stepWaiting(events, now)
		}
	}
	return now
}

// listConcurrently begins an audit that is taken in when it has ended. A failure needs no warning: Core then asks for
// another one, alone, which warns.
func (l *Loop) listConcurrently(ctx context.Context, w Work, began time.Time) {
	l.concurrent.Go(func() {
		a := listing{work: w, began: began}
		a.outcome.Observed, a.outcome.Reals, a.outcome.ObserveErr = l.kernel.Reader.Observe(ctx)
		l.listed <- a // there is room: no other begins before this one is taken in
	})
}

// advance takes in the outcome of w.
func (l *Loop) advance(w Work, o Outcome, began, now time.Time) {
	if w.Audit {
		l.audits++
		l.cause = CauseAudit
		if l.audits == 1 {
			l.cause = CauseStart
		}
	}
	l.core.Advance(w, o, now)
	if w.Audit {
		l.logPlaces()
	}
	l.reporter.acted(Act{Cause: l.cause, Work: w, Outcome: o, Began: began, Took: now.Sub(began)})
}

// completeStart logs once that the start is complete, and what it wrote: nothing, if the kernel was as desired.
func (l *Loop) completeStart() {
	if l.audits > 0 && !l.started {
		l.started = true
		l.log.Info("start completed", zap.Int("written", l.written))
	}
}

// do acts, and returns when it has. The parts of a Work come in the order that is safe for packets: a flow is flushed
// after the rows that would make it anew are gone.
func (l *Loop) do(ctx context.Context, w Work, began time.Time) (o Outcome, ended time.Time) {
	if w.Audit {
		o.Observed, o.Reals, o.ObserveErr = l.kernel.Tables.Observe(ctx)
		l.warn("could not read the whole kernel; trying again soon", o.ObserveErr)
		return o, time.Now()
	}
	if w.Delta.Len() > 0 {
		o.Results = l.kernel.Tables.Apply(ctx, w.Delta)
		l.lastWrite = time.Now()
		l.applied(w.Delta, o.Results, l.lastWrite.Sub(began))
	}
	if len(w.Flows)+len(w.Servers) == 0 {
		return o, l.lastWrite
	}
	if len(w.Flows) > 0 {
		l.flush(ctx, w.Flows, &o)
	}
	if len(w.Servers) > 0 {
		start := time.Now()
		o.Connections, o.LookErr = l.kernel.Connections.Connections(ctx, w.Servers)
		o.Looking = time.Since(start)
		l.warn("could not read the connections of draining real servers; trying again", o.LookErr)
	}
	return o, time.Now()
}

// flush does one family after the other, which costs no more: the kernel's table is walked for each anyway.
func (l *Loop) flush(ctx context.Context, flows []state.Flow, o *Outcome) {
	for i, f := range []state.Family{state.IPv4, state.IPv6} {
		var mine []state.Flow
		for _, w := range flows {
			if state.FamilyOf(w.Service.Addr()) == f {
				mine = append(mine, w)
			}
		}
		if len(mine) == 0 {
			continue
		}
		start := time.Now()
		n, err := l.kernel.Flusher.Flush(ctx, mine)
		o.Flushed[i] = Flushed{Entries: n, Took: time.Since(start)}
		o.FlushErr = errors.Join(o.FlushErr, err)
	}
	if o.FlushErr != nil {
		l.log.Warn("could not flush stale flows; trying again",
			zap.Int("waiting", len(flows)), zap.Int("givenUp", l.core.flows.givenUp), zap.Error(o.FlushErr))
	}
	if flushed := o.Flushed[0].Entries + o.Flushed[1].Entries; flushed > 0 {
		l.log.Info("flushed stale flows", zap.Int("flows", flushed))
	}
}

func (l *Loop) warn(message string, err error) {
	if err != nil {
		l.log.Warn(message, zap.Error(err))
	}
}

func (l *Loop) applied(d state.Delta, r kernel.Results, took time.Duration) {
	l.written += d.Len()
	failures, failed := r.Failures(maxLogged)
	fields := []zap.Field{zap.String("cause", string(l.cause)), zap.Int("rows", d.Len()), zap.Duration("took", took)}
	for t, c := range d.Counts() {
		if c.Sum() > 0 {
			fields = append(fields, zap.Int(state.Table(t).String(), c.Sum()))
		}
	}
	switch {
	case failed > 0:
		l.log.Warn("kernel refused some rows; trying them again",
			append(fields, zap.Int("refused", failed), zap.Error(errors.Join(failures...)))...)
	case l.cause == CauseAudit && l.core.audit.drift != [state.Tables]int{}:
		l.log.Warn("repaired kernel drift", fields...)
	default:
		l.log.Info("kernel synced", fields...)
	}
}

// maxLogged is how many refusals one log line names; the rest are counted.
const maxLogged = 10
