// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// errExceeded says that a program had its time and was not done.
var errExceeded = errors.New("its time is over")

// patience is for what takes no time worth measuring.
const patience = time.Minute

// runner measures one program in a cluster of one size.
type runner struct {
	*site
	program program
	size    large.Size
	text    string // the configuration
	want    state.State
	options options
	say     func(format string, values ...any)

	look   *look.Kernel
	locals int // addresses that the node has without any proxy
	daemon *daemon
	ended  *look.Ended // nil: the kernel does not tell which programs run
}

// renew takes the node's kernel away with all that is in it, and gives it another.
func (r *runner) renew() error {
	if err := r.stop(); err != nil {
		return err
	}
	if err := r.node().Do(wipe); err != nil {
		return err
	}
	if err := r.world.Reboot(nodeName()); err != nil {
		return err
	}
	err := r.node().Do(func() (err error) {
		r.look, err = look.Open()
		return err
	})
	if err != nil {
		return err
	}
	r.locals, err = r.look.Locals()
	return err
}

// stop ends the program and the looks at its kernel.
func (r *runner) stop() error {
	var err error
	if r.daemon != nil {
		err = r.daemon.stop(context.Background())
		r.daemon = nil
	}
	if r.look != nil {
		err = errors.Join(err, r.look.Close())
		r.look = nil
	}
	return err
}

// wipe takes the large tables out of the kernel of the calling thread, lest the end of its namespace takes time from what
// comes next.
func wipe() error {
	c, err := moby.New("")
	if err != nil {
		return fmt.Errorf("open IPVS: %w", err)
	}
	defer c.Close()
	if err := c.Flush(); err != nil {
		return fmt.Errorf("empty IPVS: %w", err)
	}
	l, err := netlink.LinkByName(string(state.DummyLink))
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", state.DummyLink, err)
	}
	return netlink.LinkDel(l)
}

// present reports whether the kernel seems to have all rows, by their number.
func (r *runner) present(ctx context.Context) (bool, error) {
	locals, err := r.look.Locals()
	if err != nil || locals < r.locals+r.addresses() {
		return false, err
	}
	entries, err := r.look.Entries(ctx, clusterIPs)
	if err != nil || entries < len(entriesOf(r.want, clusterIPs)) {
		return false, err
	}
	weights, err := r.look.Weights(ctx, serverOf(r.size.Services-1))
	return len(weights) >= r.size.Endpoints, err
}

// addresses is how many more of IPv4 the node has once it serves all.
func (r *runner) addresses() int {
	n, routed := 0, 0
	for a, b := range r.want.Addresses {
		if a.Is4() {
			n++
		}
		if b.Means == state.Routed {
			routed = 1 // routes need an address beside them
		}
	}
	return n + routed
}

// serverOf is the virtual server of the Service of a number.
func serverOf(n int) state.VirtualServerKey {
	return state.VirtualServerKey{Protocol: state.TCP, Address: netip.AddrPortFrom(large.ServiceAddress(corev1.IPv4Protocol, n), large.Port)}
}

// entryOf is what stands in a set for the Service of a number.
func entryOf(n int) state.SetEntry {
	return state.SetEntry{Set: clusterIPs, Address: serverOf(n).Address.Addr(), Protocol: state.TCP, Port: large.Port}
}

// asking is how long an answer may take: what goes wrong there is tried again soon.
const asking = 200 * time.Millisecond

// answered is an error unless a request through a Service is answered. The client's address has no way back but through
// the node, so it takes a virtual server, an address, an entry and a rule.
func (r *runner) answered(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	reply, err := r.world.Host(clientName).Ask(ctx, state.TCP, serverOf(n).Address)
	if err != nil {
		return err
	}
	if own := r.node().Addresses[0]; reply.Client.Addr() != own {
		return fmt.Errorf("the server saw %v, not the node's address %v", reply.Client, own)
	}
	return nil
}

// worked is an error unless the program has done all that it had to do: nothing in its log says that something failed,
// the kernel has all rows, and the first Service and the last one answer.
func (r *runner) worked(ctx context.Context) error {
	if err := r.daemon.check(); err != nil {
		return err
	}
	for _, n := range []int{0, r.size.Services - 1} {
		if err := r.answered(ctx, n); err != nil {
			return fmt.Errorf("ask through Service %d: %w", n, err)
		}
	}
	got, err := r.kernel(ctx, r.text)
	if err != nil {
		return err
	}
	return r.program.holds(got, r.want)
}

// awaitWorked waits until the program has done all that it had to do, as it may still be at work.
func (r *runner) awaitWorked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.options.limit)
	defer cancel()
	for {
		err := r.worked(ctx)
		if err == nil {
			return nil
		}
		if said := r.daemon.check(); said != nil {
			return said
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// A pause is for how long nobody looks again after a look that took so long.
type pause func(took time.Duration) time.Duration

// often and seldom leave most of the time to those who are measured. What takes seconds need not be known to the millisecond.
func often(took time.Duration) time.Duration  { return max(shortest, 9*took) }
func seldom(took time.Duration) time.Duration { return max(shortest, 49*took) }

const shortest = 2 * time.Millisecond

// poll calls look again and again until it says yes.
func poll(ctx context.Context, p pause, look func() (bool, error)) error {
	for {
		began := time.Now()
		yes, err := look()
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(p(time.Since(began))):
		}
	}
}

// run measures everything that the options ask for.
func (r *runner) run(ctx context.Context) report.Run {
	run := report.Run{Program: r.program.name, Services: r.size.Services, Endpoints: r.size.Endpoints, Binding: r.options.binding(r.program, r.size)}
	err := r.phases(ctx, &run)
	if err != nil {
		err = errors.Join(err, r.serving())
	}
	if stopped := r.stop(); err == nil {
		err = stopped
	}
	var late exceeded
	switch {
	case errors.As(err, &late):
		run.Exceeded = late.Error()
		r.say("%s has not done it: %v", r.program.name, err)
	case err != nil:
		run = run.Failed(err.Error())
		r.say("no figure for %s: %s", r.program.name, run.Failure)
	}
	return run
}

// serving is an error if the API server has ended: then nobody can work.
func (s *site) serving() error {
	if err := s.server.Alive(); err != nil {
		return fmt.Errorf("%w: %s", err, s.server.LastWords(lastLines))
	}
	return nil
}

// exceeded says what a program had not done when its time was over.
type exceeded struct {
	what  string
	limit time.Duration
}

func (e exceeded) Error() string { return fmt.Sprintf("%s: not within %v", e.what, e.limit) }

// phases measures one thing after the other, and proves after each that it was done.
func (r *runner) phases(ctx context.Context, run *report.Run) error {
	for _, one := range []struct {
		name    string
		measure func(context.Context, *report.Run) error
	}{
		{phaseCold, r.measureCold}, {phaseSteady, r.measureSteady}, {phaseChanges, r.measureChanges},
		{phaseLoad, r.measureLoad}, {phaseStored, r.measureStored}, {phaseRestart, r.measureRestart},
	} {
		if !r.options.wants(one.name) && one.name != phaseCold { // nothing can be measured of who did not start
			continue
		}
		r.say("%s, %v: %s", r.program.name, r.size, one.name)
		if err := one.measure(ctx, run); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		if err := r.awaitWorked(ctx); err != nil {
			return fmt.Errorf("after %s: %w", one.name, err)
		}
	}
	return nil
}
