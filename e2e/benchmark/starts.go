// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/benchmark/observe"
	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// measureCold measures starts on an empty node. The program of the last one goes on.
func (r *runner) measureCold(ctx context.Context, run *Run) {
	for range r.options.starts {
		c := r.cold(ctx)
		run.Cold = append(run.Cold, c)
		r.say("  started after %.3f s, of which %.3f s in the kernel; CPU %.2f s", c.Took, c.Kernel, c.CPU)
		if c.Took > (r.options.limit / time.Duration(2*r.options.starts)).Seconds() {
			break // once is enough of what takes minutes
		}
	}
}

func (r *runner) cold(ctx context.Context) (c Cold) {
	r.renew()
	runtime.GC()
	r.daemon = r.start(r.program)
	r.await(ctx, coldStart, seldom, r.present)
	c.Rows = r.daemon.age(time.Now())
	r.await(ctx, coldStart, often, func() bool { return r.answered(ctx, r.size.Services-1) == nil })
	c.Took = r.daemon.age(time.Now())
	if last, looks := r.awaitWorked(ctx, coldStart); looks > 1 {
		c.Again, c.Rows, c.Took = true, r.daemon.age(last), r.daemon.age(last)
	}
	c.CPU = r.cpu()
	if r.program.written != nil {
		c.Kernel = r.program.kernelTook(r.awaitStarted(ctx)).Seconds()
	}
	return c
}

// present reports whether the kernel seems to have all rows, by their number. Which of them comes last is the
// program's choice.
func (r *runner) present() bool {
	return must(r.look.Locals()) >= r.locals+r.addresses && must(r.look.Entries(clusterIPs)) >= r.entries &&
		len(must(r.look.Weights(serverOf(r.size.Services-1)))) >= r.size.Endpoints
}

// awaitStarted waits until the program says that its start is completed, and returns its log.
func (r *runner) awaitStarted(ctx context.Context) []byte {
	return r.awaitLog(ctx, func(text []byte) bool { return r.program.rowsWritten(text) >= 0 })
}

func (r *runner) awaitLog(ctx context.Context, has func([]byte) bool) (text []byte) {
	r.await(ctx, "start", seldom, func() bool {
		text = r.daemon.log()
		return has(text)
	})
	return text
}

// measureRestart measures a start where everything is in place.
func (r *runner) measureRestart(ctx context.Context, run *Run) {
	before := r.kernel(ctx)
	r.daemon.stop()
	var notices *observe.Notices
	r.onNode(func() { notices = must(observe.WatchNotices()) })
	programs, restart := r.programs.Seen(), &Restart{Programs: map[string]int{}}
	err := attempt(func() { r.restart(ctx, restart) })
	count, lost := notices.Close()
	check(errors.Join(err, lost))
	restart.Notices = count
	for name, ran := range r.programs.Since(programs) {
		restart.Programs[name] = ran.Times
	}
	if n := state.Diff(before, r.kernel(ctx)).Len(); n > 0 && restart.Written == 0 {
		check(fmt.Errorf("says that it wrote nothing, and %d rows are not as they were", n))
	}
	run.Restart = restart
	r.say("  started again after %.3f s; wrote %d rows by its own word, %d notices of the kernel; ran %v", restart.Took, restart.Written, count, restart.Programs)
}

// restart starts the program and waits until it says that it is done: in its log, if it does, else by its health,
// which is good only then.
func (r *runner) restart(ctx context.Context, restart *Restart) {
	r.daemon = r.start(r.program)
	steadily := func(time.Duration) time.Duration { return 20 * time.Millisecond }
	r.await(ctx, "restart", steadily, func() bool {
		restart.Written = r.program.rowsWritten(r.daemon.log())
		return restart.Written >= 0 || r.program.written == nil && r.healthy(ctx)
	})
	restart.Took = r.daemon.age(time.Now())
}

// healthy reports whether the program says that it is well. It may not listen yet.
func (r *runner) healthy(ctx context.Context) bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: r.node().DialContext}}
	answer, err := client.Do(must(http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10256/healthz", nil)))
	return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// measureFloor measures on empty nodes the least that the rows can cost which kube-ipvs makes, and what they cost it.
func (r *runner) measureFloor(ctx context.Context) Floor {
	f := Floor{Services: r.size.Services, Endpoints: r.size.Endpoints, Binding: r.options.binding(r.program.name, r.size), Groups: floor.Groups()}
	r.say("floor, %v", r.size)
	for range r.options.starts {
		laps := r.sendFloor(ctx)
		lap := map[string]float64{}
		for group, took := range laps {
			lap[group] = took.Seconds()
		}
		f.Laps = append(f.Laps, lap)
		r.say("  %v: %v", laps.Sum(), laps)
	}
	for range r.options.starts {
		took := r.programming(ctx)
		f.Ours = append(f.Ours, took.Seconds())
		r.say("  %s: %v", r.program.name, took)
	}
	r.stop()
	return f
}

func (r *runner) sendFloor(ctx context.Context) (laps floor.Laps) {
	r.renew()
	r.onNode(func() {
		f := must(floor.Prepare(r.want))
		runtime.GC()
		laps = must(f.Send(ctx))
		check(f.Close())
	})
	check(exactly(r.kernel(ctx), r.want))
	return laps
}

// programming is how long kube-ipvs takes to write the same rows, by its own word. The API server, which has sent all
// objects just before and has yet to tidy up after that, stands still meanwhile: it shares the processor with
// kube-ipvs, and it would not with the floor.
func (r *runner) programming(ctx context.Context) time.Duration {
	r.renew()
	r.daemon = r.start(r.program)
	r.awaitLog(ctx, r.program.known.Match)
	check(r.server.Signal(syscall.SIGSTOP))
	var text []byte
	err := attempt(func() { text = r.awaitStarted(ctx) })
	check(errors.Join(err, r.server.Signal(syscall.SIGCONT)))
	return r.program.kernelTook(text)
}
