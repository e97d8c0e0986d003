// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

const (
	stride     = 7919                   // leads from one Service to the next: to all of them, and not to neighbours
	quiet      = 100 * time.Millisecond // between two changes, so that none meets what another one left to do
	leastTimes = 3                      // how often each change is made, however long it takes
	writers    = 16                     // how many requests are under way at once
)

// step is one change: how it is written, and how the kernel shows that it has it.
type step struct {
	kind  string      // empty: it only has to be done
	write func()      // nil: the step before goes on
	done  func() bool // nil: the kernel does not show it
}

// measureChanges measures each kind of change as often as the options say, or as the time allows.
func (r *runner) measureChanges(ctx context.Context, run *Run) {
	r.changes = each(append(kinds(), ""), func(kind string) Change { return Change{Kind: kind} })
	end := time.Now().Add(r.options.budget)
	for i := 0; i < r.options.times && (i < leastTimes || time.Now().Before(end)); i++ {
		for _, s := range r.steps(ctx, i) {
			r.time(ctx, s)
		}
	}
	run.Changes = r.changes[:len(kinds())]
}

// steps are one change of each kind, after which all is as before. The endpoints of a Service come before it and go
// after it.
func (r *runner) steps(ctx context.Context, i int) []step {
	n, extra := i*stride%r.size.Services, r.size.Services+i
	o := r.size.Service(extra, 0)
	services := r.api.CoreV1().Services(o.Service.Namespace)
	endpoints := r.api.DiscoveryV1().EndpointSlices(o.Service.Namespace)
	addOne := func(s *discoveryv1.EndpointSlice) {
		s.Endpoints = append(s.Endpoints, r.size.Endpoint(corev1.IPv4Protocol, n, r.size.Endpoints))
	}
	makeUnready := func(s *discoveryv1.EndpointSlice) {
		s.Endpoints[len(s.Endpoints)-1].Conditions = discoveryv1.EndpointConditions{Ready: new(bool), Serving: new(bool)}
	}
	return []step{
		{added, r.writeSlice(ctx, n, addOne), r.serves(n, r.size.Endpoints, true)},
		{removed, r.writeSlice(ctx, n, nil), r.serves(n, r.size.Endpoints, false)},
		{unready, r.writeSlice(ctx, n, makeUnready), r.serves(n, r.size.Endpoints-1, false)},
		{"", r.writeSlice(ctx, n, nil), r.serves(n, r.size.Endpoints-1, true)},
		{"", func() {
			for _, s := range o.Slices {
				must(endpoints.Create(ctx, s, metav1.CreateOptions{}))
			}
		}, nil},
		{serviceAdded, func() { must(services.Create(ctx, o.Service, metav1.CreateOptions{})) }, func() bool { return r.complete(extra) }},
		{serviceDeleted, func() { check(services.Delete(ctx, o.Service.Name, metav1.DeleteOptions{})) }, func() bool { return r.silent(extra) }},
		{serviceGone, nil, func() bool { return r.gone(extra) }},
		{"", func() {
			for _, s := range o.Slices {
				check(endpoints.Delete(ctx, s.Name, metav1.DeleteOptions{}))
			}
		}, nil},
	}
}

func (r *runner) silent(n int) bool {
	weights := slices.Collect(maps.Values(r.look.weights(serverOf(n))))
	return !slices.ContainsFunc(weights, func(w int) bool { return w > 0 })
}

func (r *runner) gone(n int) bool {
	return !r.look.served(serverOf(n)) && !r.look.local(serverOf(n).Address.Addr()) && !r.look.has(entryOf(n))
}

func (r *runner) serves(n, endpoint int, should bool) func() bool {
	server, at := serverOf(n), endpointOf(r.size, n, endpoint)
	return func() bool { return r.look.weights(server)[at] > 0 == should }
}

func (r *runner) time(ctx context.Context, s step) {
	found := &r.changes[slices.IndexFunc(r.changes, func(one Change) bool { return one.Kind == s.kind })]
	both, ctx := errgroup.WithContext(ctx)
	if s.write != nil {
		if s.done != nil {
			check(sleep(ctx, quiet))
		}
		r.written = time.Now()
		tryIn(both, func() {
			s.write()
			found.Answered = append(found.Answered, time.Since(r.written).Seconds())
		})
	}
	if s.done != nil {
		tryIn(both, func() {
			r.await(ctx, s.kind, often, s.done)
			found.Took = append(found.Took, time.Since(r.written).Seconds())
		})
	}
	check(both.Wait())
}

// writeSlice makes the last EndpointSlice of a Service what it was at first, but for one change.
func (r *runner) writeSlice(ctx context.Context, n int, change func(*discoveryv1.EndpointSlice)) func() {
	slice := lastSlice(r.size, n)
	if change != nil {
		change(slice)
	}
	return func() { r.update(ctx, slice) }
}

func lastSlice(size large.Size, n int) *discoveryv1.EndpointSlice {
	all := size.Service(n, 0).Slices
	return all[len(all)-1]
}

// update writes an EndpointSlice, and does not read what became of it.
func (r *runner) update(ctx context.Context, slice *discoveryv1.EndpointSlice) {
	check(r.api.DiscoveryV1().RESTClient().Put().Namespace(slice.Namespace).Resource("endpointslices").Name(slice.Name).
		Body(slice).Do(ctx).Error())
}

type change struct {
	service              int
	at                   netip.AddrPort
	serves               bool                       // whether the endpoint gets connections after it
	slice                *discoveryv1.EndpointSlice // what it becomes
	sent, answered, seen time.Time
}

// schedule returns the changes of a load. In one turn each Service gets an endpoint, in the next it loses one of its
// first: no change undoes an earlier one, so that each can be seen however late. A small cluster has fewer of them.
func schedule(size large.Size, most int) []change {
	inSlice := len(lastSlice(size, 0).Endpoints)
	services, first := min(size.Services, most), size.Endpoints-inSlice
	turns := 2*min(large.Spare, inSlice) - 1
	list := make([]change, min(most, turns*services))
	for i := range list {
		n, turn := i%services*stride%size.Services, i/services
		gained, lost := turn/2+1, turn/2+turn%2
		c := change{service: n, serves: turn%2 == 0, slice: lastSlice(size, n)}
		c.at = endpointOf(size, n, first+gained-1)
		if c.serves {
			c.at = endpointOf(size, n, size.Endpoints+gained-1)
		}
		c.slice.Endpoints = slices.Delete(c.slice.Endpoints, 0, lost)
		for g := range gained {
			c.slice.Endpoints = append(c.slice.Endpoints, size.Endpoint(corev1.IPv4Protocol, n, size.Endpoints+g))
		}
		list[i] = c
	}
	return list
}

// store writes an EndpointSlice to etcd. It comes to the API server as most changes do in a large cluster, from another
// one.
func (r *runner) store(ctx context.Context, slice *discoveryv1.EndpointSlice) {
	check(r.plane.Store(ctx, []runtime.Object{slice}))
}

// measureLoad measures many changes a second, or as many as can be written. All is as before when it is over.
func (r *runner) measureLoad(ctx context.Context, write func(context.Context, *discoveryv1.EndpointSlice)) *Load {
	check(sleep(ctx, calm))
	list := schedule(r.size, int(r.options.rate*r.options.load.Seconds()))
	before := r.cpu()
	r.play(ctx, list, write)
	l := loadOf(list)
	l.Asked, l.CPU = r.options.rate, (r.cpu()-before)/float64(len(list))
	restored, ctx := errgroup.WithContext(ctx)
	restored.SetLimit(writers)
	for _, c := range list[:min(r.size.Services, len(list))] { // the first change of each Service
		tryIn(restored, r.writeSlice(ctx, c.service, nil))
	}
	check(restored.Wait())
	return &l
}

func loadOf(list []change) Load {
	last := slices.MaxFunc(list, func(a, b change) int { return a.answered.Compare(b.answered) }).answered
	seen := slices.MaxFunc(list, func(a, b change) int { return a.seen.Compare(b.seen) }).seen
	return Load{
		Changes: len(list), Written: float64(len(list)) / last.Sub(list[0].sent).Seconds(), Last: max(0, seen.Sub(last).Seconds()),
		Took:     summarize(each(list, func(c change) float64 { return c.seen.Sub(c.sent).Seconds() })),
		Answered: summarize(each(list, func(c change) float64 { return c.answered.Sub(c.sent).Seconds() })),
	}
}

// play writes the changes at their times, or as fast as they are taken, and watches the kernel meanwhile.
func (r *runner) play(ctx context.Context, list []change, write func(context.Context, *discoveryv1.EndpointSlice)) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers + 1)
	sent := make(chan int, len(list))
	var open []int
	noted := 0
	tryIn(group, func() {
		r.await(ctx, fmt.Sprintf("%d changes", len(list)), steadily, func() bool {
			for range len(sent) {
				open = append(open, <-sent)
				noted++
			}
			open = r.stillOpen(list, open)
			return noted == len(list) && len(open) == 0
		})
	})
	began := time.Now()
	for i := range list {
		at := began.Add(time.Duration(float64(i) / r.options.rate * float64(time.Second)))
		tryIn(group, func() {
			check(sleep(ctx, time.Until(at)))
			c := &list[i]
			c.sent = time.Now()
			sent <- i
			write(ctx, c.slice)
			c.answered = time.Now()
		})
	}
	check(group.Wait())
}

func tryIn(group *errgroup.Group, work func()) { group.Go(func() error { return attempt(work) }) }

// steadily is the pause between two looks under load, when a look may take long because others work.
func steadily(took time.Duration) time.Duration {
	return min(max(20*time.Millisecond, 4*took), 200*time.Millisecond)
}

// stillOpen returns the open changes that the kernel does not have yet. After some Services in vain it looks at no
// other.
func (r *runner) stillOpen(list []change, open []int) []int {
	const mostMisses = 8
	misses := 0
	found := map[int]map[netip.AddrPort]int{}
	return slices.DeleteFunc(open, func(i int) bool {
		c := &list[i]
		weights, looked := found[c.service]
		if !looked && misses < mostMisses {
			weights = r.look.weights(serverOf(c.service))
			found[c.service] = weights
		}
		if weights != nil && weights[c.at] > 0 == c.serves {
			c.seen = time.Now()
			return true
		}
		if !looked {
			misses++
		}
		return false
	})
}
