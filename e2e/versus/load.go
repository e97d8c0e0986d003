// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

// one is one of many changes.
type one struct {
	service int
	at      netip.AddrPort
	serves  bool // whether the endpoint is to get connections then

	sent, answered, seen time.Time
}

// schedule are the changes of a load, and what the slices are after each. The Services take turns. In one turn each gets an
// endpoint, in the next it loses one of its first: no change undoes an earlier one, so that each can be seen however late. In
// a small cluster there are fewer such changes than one may wish for.
type schedule struct {
	changes []one
	slices  []*discoveryv1.EndpointSlice
}

func newSchedule(size large.Size, changes int) schedule {
	services := min(size.Services, changes)
	turns := 2*min(large.Spare, size.Endpoints-first(size)) - 1
	changes = min(changes, turns*services)
	s := schedule{make([]one, changes), make([]*discoveryv1.EndpointSlice, changes)}
	for i := range changes {
		n, turn := i%services*stride%size.Services, i/services
		gained := turn/2 + 1
		o := &s.changes[i]
		o.service, o.serves = n, turn%2 == 0
		endpoint := size.Endpoints + gained - 1
		if !o.serves {
			endpoint = first(size) + gained - 1
		}
		o.at = addressOf(size, n, endpoint)
		s.slices[i] = after(size, n, gained, turn/2+turn%2)
	}
	return s
}

// first is the first endpoint of a Service's last slice.
func first(size large.Size) int {
	slices := size.Service(0, 0).Slices
	return size.Endpoints - len(slices[len(slices)-1].Endpoints)
}

// after is the last slice of a Service that gained some endpoints and lost some.
func after(size large.Size, n, gained, lost int) *discoveryv1.EndpointSlice {
	all := size.Service(n, 0).Slices
	s := all[len(all)-1]
	s.Endpoints = slices.Delete(s.Endpoints, 0, lost)
	for i := range gained {
		s.Endpoints = append(s.Endpoints, size.Endpoint(corev1.IPv4Protocol, n, size.Endpoints+i))
	}
	return s
}

func addressOf(size large.Size, n, i int) netip.AddrPort {
	e := size.Endpoint(corev1.IPv4Protocol, n, i)
	return netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), large.TargetPort)
}

// measureLoad measures many changes a second that are written to the API server, or as many as it takes.
func (r *runner) measureLoad(ctx context.Context, run *report.Run) (err error) {
	run.Load, err = r.measureWrites(ctx, phaseLoad, r.update)
	return err
}

// measureStored measures as many that come to the API server from etcd, as if another one had written them. That is so with most
// changes in a large cluster.
func (r *runner) measureStored(ctx context.Context, run *report.Run) (err error) {
	run.Stored, err = r.measureWrites(ctx, phaseStored, func(ctx context.Context, s *discoveryv1.EndpointSlice) error {
		return r.plane.Store(ctx, []runtime.Object{s})
	})
	return err
}

// write writes an EndpointSlice.
type write func(context.Context, *discoveryv1.EndpointSlice) error

// measureWrites measures many changes a second. All is as before when it is over.
func (r *runner) measureWrites(ctx context.Context, phase string, w write) (*report.Load, error) {
	if err := sleep(ctx, calm); err != nil {
		return nil, err
	}
	s := newSchedule(r.size, int(r.options.rate*r.options.load.Seconds()))
	p := look.Program(r.daemon.Pid())
	before, err := p.CPU()
	if err != nil {
		return nil, err
	}
	stop := r.profile(phase)
	err = r.play(ctx, s, w)
	stop()
	if err != nil {
		return nil, errors.Join(err, r.restore(context.WithoutCancel(ctx), s))
	}
	cpu, err := p.CPU()
	if err != nil {
		return nil, err
	}
	l := summarize(s.changes)
	l.Asked, l.CPU = r.options.rate, report.Of(cpu-before)/report.Seconds(len(s.changes))
	r.say("  %d changes, %.1f a second: p50 %.3f s, p99 %.3f s; until the write was answered p50 %.3f s, p99 %.3f s; CPU %.2f ms a change",
		l.Changes, l.Written, l.Took.P50, l.Took.P99, l.Answered.P50, l.Answered.P99, l.CPU*1000)
	return &l, r.restore(ctx, s)
}

func summarize(changes []one) report.Load {
	var took, answered []report.Seconds
	var last, seen time.Time
	for _, c := range changes {
		took = append(took, report.Of(c.seen.Sub(c.sent)))
		answered = append(answered, report.Of(c.answered.Sub(c.sent)))
		last, seen = latest(last, c.answered), latest(seen, c.seen)
	}
	return report.Load{
		Changes: len(changes), Written: float64(len(changes)) / last.Sub(changes[0].sent).Seconds(),
		Took: report.Summarize(took), Answered: report.Summarize(answered), Last: report.Of(max(0, seen.Sub(last))),
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// play writes the changes at their times, or as fast as they are taken, and watches the kernel meanwhile.
func (r *runner) play(ctx context.Context, s schedule, w write) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	sent := make(chan int, len(s.changes))
	var watching sync.WaitGroup
	var failed error
	watching.Go(func() {
		if failed = r.watch(ctx, s.changes, sent); failed != nil {
			stop(failed)
		}
	})
	began, pause := time.Now(), time.Duration(float64(time.Second)/r.options.rate)
	err := each(ctx, 0, len(s.changes), func(ctx context.Context, i int) error {
		if err := sleep(ctx, time.Until(began.Add(time.Duration(i)*pause))); err != nil {
			return err
		}
		c, slice := &s.changes[i], s.slices[i]
		c.sent = time.Now()
		sent <- i
		err := w(ctx, slice)
		c.answered = time.Now()
		return err
	})
	close(sent)
	if err != nil {
		stop(err)
	}
	watching.Wait()
	if err == nil && failed != nil {
		err = r.late(failed, fmt.Sprintf("%d changes", len(s.changes)))
	}
	return err
}

// misses is how many changes that are not there yet are looked at before the next pause: if many are under way, to look at
// all of them each time would keep the processor from those who work.
const misses = 8

// steadily is the pause between two looks under load. Where all compete for one processor, a look may take long because others
// work: a pause of some times as long was once taken for waits of seconds, which nobody had but the one who looked.
func steadily(took time.Duration) time.Duration {
	return min(max(20*time.Millisecond, 4*took), 200*time.Millisecond)
}

// watch notes when the kernel has each of the changes that were sent.
func (r *runner) watch(ctx context.Context, changes []one, sent <-chan int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.load+r.options.limit, errExceeded)
	defer cancel()
	var open []int
	more := true
	return poll(ctx, steadily, func() (bool, error) {
		for more {
			i, ok, waiting := receive(sent)
			if waiting {
				break
			}
			if more = ok; ok {
				open = append(open, i)
			}
		}
		var err error
		open, err = r.seen(ctx, changes, open)
		if err == nil {
			err = r.daemon.Alive()
		}
		return !more && len(open) == 0, err
	})
}

// receive takes what there is, without waiting for it.
func receive(from <-chan int) (i int, ok, waiting bool) {
	select {
	case i, ok = <-from:
		return i, ok, false
	default:
		return 0, false, true
	}
}

// seen looks for open changes, the oldest first, and returns those that are still open. One look at a Service is for all its
// changes: with a thousand endpoints it takes as long as many changes do.
func (r *runner) seen(ctx context.Context, changes []one, open []int) ([]int, error) {
	missed := 0
	found := map[int]map[netip.AddrPort]uint32{}
	var still []int
	for k, i := range open {
		c := &changes[i]
		weights, looked := found[c.service]
		if !looked && missed == misses {
			still = append(still, i)
			continue
		}
		if !looked {
			var err error
			if weights, err = r.look.Weights(ctx, serverOf(c.service)); err != nil {
				return append(still, open[k:]...), err
			}
			found[c.service] = weights
		}
		if weights[c.at] > 0 == c.serves {
			c.seen = time.Now()
			continue
		}
		if !looked {
			missed++
		}
		still = append(still, i)
	}
	return still, nil
}

// restore makes the slices that a load changed what they were.
func (r *runner) restore(ctx context.Context, s schedule) error {
	changed := map[int]bool{}
	for _, c := range s.changes {
		changed[c.service] = true
	}
	var list []int
	for n := range changed {
		list = append(list, n)
	}
	return each(ctx, 0, len(list), func(ctx context.Context, i int) error { return r.writeSlice(list[i], nil)(ctx) })
}
