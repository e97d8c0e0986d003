// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"gonum.org/v1/gonum/floats"

	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	patience = time.Minute     // for what takes no time worth measuring
	calm     = 5 * time.Second // after which a program is taken to have nothing left to do
	tooMany  = 20000           // Services have addresses that take too long to give to a device one by one
)

// runner measures one program in a cluster of one size.
type runner struct {
	*bench
	program   program
	size      large.Size
	binding   config.VIPBinding
	config    config.Config
	want      state.State
	look      *look
	addresses int            // that the node has when all Services have theirs
	process   *world.Program // of the program
	began     time.Time      // when it was started
	changes   []Change       // one for each kind, as far as they are made
	written   time.Time      // when the last of them was
}

// newRunner configures a program, and starts it once unmeasured: that reads it from the disk, which may be another
// machine's.
func newRunner(ctx context.Context, b *bench, p program, size large.Size) *runner {
	r := &runner{bench: b, program: p, size: size, binding: config.AddressBinding}
	if p.name == ours && size.Services >= tooMany {
		r.binding = config.RouteBinding
	}
	r.config = b.configure(r.binding)
	r.want = r.rows(ctx)
	must(b.node().Run(ctx, p.argv[0], "--help"))
	return r
}

// run makes all measurements. A program that failed has no figures; one that was not done in time has those that it
// got.
func (r *runner) run(ctx context.Context) Run {
	run := Run{Program: r.program.name, Services: r.size.Services, Endpoints: r.size.Endpoints, Binding: string(r.binding)}
	none := run
	err := attempt(func() { r.measure(ctx, &run) })
	if err != nil {
		bad := attempt(r.check)
		err = errors.Join(err, bad, alive(r.server.Program))
		if late, ok := errors.AsType[exceeded](err); ok && bad == nil {
			run.Exceeded = late.Error()
			r.say("%s has not done it: %v", r.program.name, err)
			err = nil
		}
	}
	if err = errors.Join(err, attempt(r.stop)); err != nil {
		run = none
		run.Failure = err.Error()
		r.say("no figure for %s: %v", r.program.name, err)
	}
	return run
}

// measure makes one measurement after the other, and proves after each that the program has done its work.
func (r *runner) measure(ctx context.Context, run *Run) {
	for _, m := range []struct {
		name    string
		measure func(context.Context, *Run)
	}{
		{coldStart, r.measureCold},
		{"steady state", r.measureSteady}, // of a program that has only started
		{"changes", r.measureChanges},
		{underLoad, func(ctx context.Context, run *Run) { run.Load = r.measureLoad(ctx, r.update) }},
		{"stored load", func(ctx context.Context, run *Run) { run.Stored = r.measureLoad(ctx, r.store) }},
		{"restart", r.measureRestart},
	} {
		r.say("%s, %v: %s", r.program.name, r.size, m.name)
		m.measure(ctx, run)
		r.awaitWorked(ctx, m.name)
	}
}

type exceeded string

func (e exceeded) Error() string { return string(e) }

// renew gives the node a new kernel. The large tables of the old one go first: their end would take time from what
// comes next.
func (r *runner) renew() {
	r.stop()
	r.onNode(func() {
		c := must(moby.New(""))
		defer c.Close()
		check(c.Flush())
		if l, err := netlink.LinkByName(string(state.DummyLink)); err == nil {
			check(netlink.LinkDel(l))
		}
	})
	check(r.world.Reboot(nodeName()))
	r.onNode(func() { r.look = newLook() })
	r.addresses = r.look.locals() + len(r.want.Addresses)
	if r.binding == config.RouteBinding {
		r.addresses++ // routes need an address beside them
	}
}

func (r *runner) stop() {
	r.end()
	if r.look != nil {
		r.look.close()
	}
	r.look = nil
}

// awaitWorked waits until the program has done its work. It returns when the last look began, and how many there were.
func (r *runner) awaitWorked(ctx context.Context, what string) (last time.Time, looks int) {
	for end := time.Now().Add(r.options.limit); ; check(sleep(ctx, time.Second)) {
		last = time.Now()
		looks++
		err := r.worked(ctx)
		if err == nil {
			return last, looks
		}
		r.say("  not yet: %v", err)
		r.check()
		if time.Now().After(end) {
			check(fmt.Errorf("after %s: %w", what, err))
		}
	}
}

// A pause is for how long there is no other look after one that took so long.
type pause func(took time.Duration) time.Duration

// often and seldom leave most of the time to those who are measured. What takes seconds need not be known to the
// millisecond.
func often(took time.Duration) time.Duration  { return max(shortest, 9*took) }
func seldom(took time.Duration) time.Duration { return max(shortest, 49*took) }

const shortest = 2 * time.Millisecond

// poll looks again and again until there is what it looks for. It returns why ctx ended if it ends before.
func poll(ctx context.Context, p pause, look func() bool) error {
	for {
		began := time.Now()
		if look() {
			return nil
		}
		if err := sleep(ctx, p(time.Since(began))); err != nil {
			return err
		}
	}
}

// await is poll as long as a program may take, while it is well. Its log is read once a second.
func (r *runner) await(ctx context.Context, what string, p pause, look func() bool) {
	late := exceeded(fmt.Sprintf("%s: not within %v", what, r.options.limit))
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.limit, late)
	defer cancel()
	next := time.Now().Add(time.Second)
	check(poll(ctx, p, func() bool {
		if time.Now().After(next) {
			r.check()
			next = time.Now().Add(time.Second)
		}
		return look()
	}))
}

func sleep(ctx context.Context, d time.Duration) error {
	slept, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-slept.Done()
	return context.Cause(ctx)
}

func (r *runner) measureSteady(ctx context.Context, run *Run) {
	check(sleep(ctx, calm))
	r.ended.take()
	began, last := time.Now(), r.cpu()
	var seconds []float64
	for len(seconds) == 0 || time.Since(began) < r.options.steady {
		check(sleep(ctx, time.Second))
		now := r.cpu()
		seconds = append(seconds, now-last)
		last = now
	}
	status := must(must(procfs.NewProc(r.process.Pid())).NewStatus())
	run.Steady = &Steady{
		Lasted: time.Since(began).Seconds(), CPU: floats.Sum(seconds), Busy: slices.Max(seconds), Quiet: median(seconds),
		Resident: int64(status.VmRSS), Peak: int64(status.VmHWM),
	}
	run.Steady.Programs, run.Steady.CPUPerProgram = r.ended.take()
}

// cpu is for how many seconds the program, and those of its children that have ended, were on a processor.
func (r *runner) cpu() float64 {
	const ticks = 100 // a second, for every program that asks
	s := must(must(procfs.NewProc(r.process.Pid())).Stat())
	return float64(int(s.UTime+s.STime)+s.CUTime+s.CSTime) / ticks
}

// measureCold measures starts on an empty node. The program of the last one goes on.
func (r *runner) measureCold(ctx context.Context, run *Run) {
	for range r.options.starts {
		r.renew()
		runtime.GC()
		r.start()
		r.await(ctx, coldStart, seldom, r.present)
		c := Cold{Rows: r.age(time.Now())}
		r.await(ctx, coldStart, steadily, func() bool { return r.answered(ctx, r.size.Services-1) == nil })
		c.Took = r.age(time.Now())
		if last, looks := r.awaitWorked(ctx, coldStart); looks > 1 {
			c.Again, c.Rows, c.Took = true, r.age(last), r.age(last)
		}
		c.CPU = r.cpu()
		if r.program.name == ours {
			c.Kernel = r.program.kernelTook(r.awaitLog(ctx, r.program.written)).Seconds()
		}
		run.Cold = append(run.Cold, c)
		if c.Took > (r.options.limit / time.Duration(2*r.options.starts)).Seconds() {
			break // once is enough of what takes minutes
		}
	}
}

// present reports whether the kernel seems to have all rows: it has all addresses, and all of some Services.
func (r *runner) present() bool {
	const some = 8
	if r.look.locals() < r.addresses {
		return false
	}
	for n := r.size.Services - 1; n >= 0; n -= r.size.Services/some + 1 {
		if !r.complete(n) {
			return false
		}
	}
	return true
}

func (r *runner) complete(n int) bool {
	return len(r.look.weights(serverOf(n))) >= r.size.Endpoints && r.look.local(serverOf(n).Address.Addr()) && r.look.has(entryOf(n))
}

func (r *runner) awaitLog(ctx context.Context, has *regexp.Regexp) (text []byte) {
	r.await(ctx, "start", seldom, func() bool {
		text = r.log()
		return has.Match(text)
	})
	return text
}

// measureRestart measures a start where everything is in place, until the log says that it is done, or else a good
// health.
func (r *runner) measureRestart(ctx context.Context, run *Run) {
	before := r.kernel(ctx)
	r.end()
	var notices *nl.NetlinkSocket
	r.onNode(func() { notices = listen() })
	defer notices.Close()
	restart := &Restart{}
	r.ended.take()
	r.start()
	at50Hertz := func(time.Duration) time.Duration { return 20 * time.Millisecond }
	r.await(ctx, "restart", at50Hertz, func() bool {
		restart.Written = r.program.rowsWritten(r.log())
		return restart.Written >= 0 || r.program.name != ours && r.healthy(ctx)
	})
	restart.Took = r.age(time.Now())
	restart.Notices = count(notices)
	restart.Programs, _ = r.ended.take()
	if n := state.Diff(before, r.kernel(ctx)).Len(); n > 0 && restart.Written == 0 {
		check(fmt.Errorf("says that it wrote nothing, and %d rows are not as they were", n))
	}
	run.Restart = restart
}

// healthy reports whether the program says that it is well. It may not listen yet.
func (r *runner) healthy(ctx context.Context) bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: r.node().DialContext}}
	answer, err := client.Do(must(http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10256/healthz", nil)))
	return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// measureFloor measures on empty nodes the least that the rows can cost which kube-ipvs makes, and what they cost it.
func (r *runner) measureFloor(ctx context.Context) Floor {
	f := Floor{Services: r.size.Services, Endpoints: r.size.Endpoints, Binding: string(r.binding), Groups: floor.Groups()}
	r.say("floor, %v", r.size)
	for range r.options.starts {
		laps := map[string]float64{}
		r.renew()
		r.onNode(func() {
			rows := must(floor.Prepare(r.want))
			runtime.GC()
			for group, took := range must(rows.Send(ctx)) {
				laps[group] = took.Seconds()
			}
			check(rows.Close())
		})
		check(rig.Differ(r.kernel(ctx), r.want))
		f.Laps = append(f.Laps, laps)
	}
	for range r.options.starts {
		f.Ours = append(f.Ours, r.programming(ctx).Seconds())
	}
	r.stop()
	return f
}

// programming is how long kube-ipvs takes to write the same rows, by its own word. The API server, which has yet to
// tidy up after it has sent all objects, stands still meanwhile: the floor does not share the processor with it either.
func (r *runner) programming(ctx context.Context) time.Duration {
	r.renew()
	r.start()
	r.awaitLog(ctx, r.program.known)
	check(r.server.Signal(syscall.SIGSTOP))
	var text []byte
	err := attempt(func() { text = r.awaitLog(ctx, r.program.written) })
	check(errors.Join(err, r.server.Signal(syscall.SIGCONT)))
	return r.program.kernelTook(text)
}
