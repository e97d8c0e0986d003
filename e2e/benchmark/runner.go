// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"gonum.org/v1/gonum/floats"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/benchmark/observe"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	patience = time.Minute     // for what takes no time worth measuring
	calm     = 5 * time.Second // after which a program is taken to have nothing left to do
)

// runner measures one program in a cluster of one size.
type runner struct {
	*site
	program program
	size    large.Size
	options options
	config  config.Config
	want    state.State
	// How many IPv4 addresses and cluster IPs are in what is wanted.
	addresses, entries int

	say      func(format string, values ...any)
	programs *observe.Programs // nil: the kernel does not report which programs end

	look   *observe.Kernel
	locals int // addresses that the node has without any proxy
	daemon *daemon
}

// newRunner configures a program. Its first start reads it from the disk, which may be another machine's: that is no
// measured one.
func newRunner(ctx context.Context, s *site, p program, size large.Size, o options) *runner {
	r := &runner{site: s, program: p, size: size, options: o}
	r.config = readConfiguration(s.configure(o.binding(p.name, size)))
	r.want = r.rows(ctx)
	r.entries = len(bare(r.want).Entries)
	for a := range r.want.Addresses {
		if a.Is4() {
			r.addresses++
		}
	}
	if o.binding(p.name, size) == string(config.RouteBinding) {
		r.addresses++ // routes need an address beside them
	}
	must(s.node().Run(ctx, p.argv[0], "--help"))
	return r
}

// command is how the program is started, without folders.
func (r *runner) command() string {
	argv := r.program.commandLine(configurationFile)
	return strings.Join(append([]string{filepath.Base(argv[0])}, argv[1:]...), " ")
}

// run makes the measurements that the options ask for. A program that failed has no figures; one that was not done in
// time has those that it got.
func (r *runner) run(ctx context.Context) Run {
	run := Run{Program: r.program.name, Services: r.size.Services, Endpoints: r.size.Endpoints, Binding: r.options.binding(r.program.name, r.size)}
	none := run
	err := attempt(func() { r.measure(ctx, &run) })
	if err != nil {
		bad := attempt(func() { check(r.daemon.check()) })
		err = errors.Join(err, bad, r.serving())
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

// measure makes one measurement after the other, and proves after each that the program has done its work. A program
// that did not start cannot be measured.
func (r *runner) measure(ctx context.Context, run *Run) {
	for _, m := range measurements() {
		if m.name == coldStart || slices.Contains(r.options.phases, m.name) {
			r.say("%s, %v: %s", r.program.name, r.size, m.name)
			m.measure(r, ctx, run)
			r.awaitWorked(ctx, m.name)
		}
	}
}

// exceeded says what a program had not done when its time was over.
type exceeded struct {
	what  string
	limit time.Duration
}

func (e exceeded) Error() string { return fmt.Sprintf("%s: not within %v", e.what, e.limit) }

// renew gives the node a new kernel. The large tables of the old one go first, lest the end of its namespace takes
// time from what comes next.
func (r *runner) renew() {
	r.stop()
	r.onNode(wipe)
	check(r.world.Reboot(nodeName()))
	r.onNode(func() { r.look = must(observe.Open()) })
	r.locals = must(r.look.Locals())
}

// stop ends the program and the looks at its kernel.
func (r *runner) stop() {
	if r.daemon != nil {
		r.daemon.stop()
	}
	if r.look != nil {
		r.look.Close()
	}
	r.daemon, r.look = nil, nil
}

// serverOf is the virtual server of the Service n.
func serverOf(n int) state.VirtualServerKey {
	return state.VirtualServerKey{Protocol: state.TCP, Address: netip.AddrPortFrom(large.ServiceAddress(corev1.IPv4Protocol, n), large.Port)}
}

// entryOf is what stands in a set for the Service n.
func entryOf(n int) state.SetEntry {
	return state.SetEntry{Set: clusterIPs, Address: serverOf(n).Address.Addr(), Protocol: state.TCP, Port: large.Port}
}

// endpointOf is where the endpoint i of the Service n is.
func endpointOf(size large.Size, n, i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(size.Endpoint(corev1.IPv4Protocol, n, i).Addresses[0]), large.TargetPort)
}

// answered is an error unless a request through the Service n is answered. The client's address has no way back but
// through the node, so it takes a virtual server, an address, an entry and a rule.
func (r *runner) answered(ctx context.Context, n int) error {
	const limit = 200 * time.Millisecond // an attempt that goes wrong is repeated soon
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reply, err := r.world.Host(clientName).Ask(ctx, state.TCP, serverOf(n).Address)
	if own := r.node().Addresses[0]; err == nil && reply.Client.Addr() != own {
		err = fmt.Errorf("the server saw %v, not the node's address %v", reply.Client, own)
	}
	if err != nil {
		return fmt.Errorf("ask through Service %d: %w", n, err)
	}
	return nil
}

// worked is an error unless the program has done its work: its log says of nothing that it failed, the first Service
// and the last one answer, and the kernel has all rows.
func (r *runner) worked(ctx context.Context) error {
	return attempt(func() {
		check(r.daemon.check())
		check(r.answered(ctx, 0))
		check(r.answered(ctx, r.size.Services-1))
		check(r.program.holds(r.kernel(ctx), r.want))
	})
}

// awaitWorked waits until the program has done its work. It returns when the last look began, and how many there
// were.
func (r *runner) awaitWorked(ctx context.Context, what string) (last time.Time, looks int) {
	for end := time.Now().Add(r.options.limit); ; looks++ {
		last = time.Now()
		err := r.worked(ctx)
		if err == nil {
			return last, looks + 1
		}
		r.say("  not yet: %v", err)
		check(r.daemon.check())
		check(sleep(ctx, time.Second))
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

// awaitFor is poll for a time, while the program is well. Its log is read once a second.
func (r *runner) awaitFor(ctx context.Context, e exceeded, p pause, look func() bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.limit, e)
	defer cancel()
	next := time.Now().Add(time.Second)
	check(poll(ctx, p, func() bool {
		if time.Now().After(next) {
			check(r.daemon.check())
			next = time.Now().Add(time.Second)
		}
		return look()
	}))
}

// await is awaitFor as long as a program may take.
func (r *runner) await(ctx context.Context, what string, p pause, look func() bool) {
	r.awaitFor(ctx, exceeded{what, r.options.limit}, p, look)
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// measureSteady measures some time without changes.
func (r *runner) measureSteady(ctx context.Context, run *Run) {
	check(sleep(ctx, calm))
	began, programs, last := time.Now(), r.programs.Seen(), r.cpu()
	var seconds []float64
	for len(seconds) == 0 || time.Since(began) < r.options.steady {
		check(sleep(ctx, time.Second))
		now := r.cpu()
		seconds = append(seconds, now-last)
		last = now
	}
	s := &Steady{
		Lasted: time.Since(began).Seconds(), CPU: floats.Sum(seconds), Busy: slices.Max(seconds), Quiet: median(seconds),
		Programs: map[string]int{}, CPUPerProgram: map[string]float64{},
	}
	status := must(must(procfs.NewProc(r.daemon.Pid())).NewStatus())
	s.Resident, s.Peak = int64(status.VmRSS), int64(status.VmHWM)
	for name, ran := range r.programs.Since(programs) {
		s.Programs[name], s.CPUPerProgram[name] = ran.Times, ran.CPU.Seconds()
	}
	run.Steady = s
	r.say("  CPU %.2f s in %.0f s, resident %d MiB, at most %d MiB; ran %v", s.CPU, s.Lasted, s.Resident>>20, s.Peak>>20, s.Programs)
}

// cpu is for how many seconds the program, and those of its children that have ended, were on a processor.
func (r *runner) cpu() float64 {
	const ticks = 100 // a second, for every program that asks
	s := must(must(procfs.NewProc(r.daemon.Pid())).Stat())
	return float64(int(s.UTime+s.STime)+s.CUTime+s.CSTime) / ticks
}
