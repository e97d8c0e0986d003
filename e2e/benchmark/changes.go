// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

const (
	// stride leads from one Service to the next: to all of them, and not to neighbours.
	stride = 7919
	// quiet is the pause between two changes, so that none meets what another one left to do.
	quiet = 100 * time.Millisecond
	// leastTimes is how often each change is made, however long it takes.
	leastTimes = 3
)

// step is one change: how it is written, and how the kernel shows that it has it.
type step struct {
	kind  string      // empty: it only has to be done
	write func()      // nil: the step before goes on
	done  func() bool // nil: the kernel does not show it
}

// changer makes single changes, one after the other.
type changer struct {
	*runner
	found map[string]*Change
	began time.Time // the last write
}

// measureChanges measures each kind of change as often as the options say, or as the time allows.
func (r *runner) measureChanges(ctx context.Context, run *Run) {
	c := &changer{runner: r, found: map[string]*Change{"": {}}}
	for _, kind := range kinds() {
		c.found[kind] = &Change{Kind: kind}
	}
	end := time.Now().Add(r.options.budget)
	for i := 0; i < r.options.times && (i < leastTimes || time.Now().Before(end)); i++ {
		for _, s := range c.steps(ctx, i) {
			c.time(ctx, s)
		}
	}
	for _, kind := range kinds() {
		one := *c.found[kind]
		run.Changes = append(run.Changes, one)
		r.say("  %s: p50 %.4f s, p99 %.4f s of %d; until the API server answered p50 %.4f s", kind,
			median(one.Took), quantile(one.Took, 0.99), len(one.Took), median(one.Answered))
	}
}

// steps are one change of each kind, after which all is as before. A Service that is added and deleted has its
// endpoints before and after.
func (c *changer) steps(ctx context.Context, i int) []step {
	n, extra := i*stride%c.size.Services, c.size.Services+i
	o := c.size.Service(extra, 0)
	services := c.api.CoreV1().Services(o.Service.Namespace)
	endpoints := c.api.DiscoveryV1().EndpointSlices(o.Service.Namespace)
	addOne := func(s *discoveryv1.EndpointSlice) {
		s.Endpoints = append(s.Endpoints, c.size.Endpoint(corev1.IPv4Protocol, n, c.size.Endpoints))
	}
	return []step{
		{added, c.writeSlice(ctx, n, addOne), c.serves(n, c.size.Endpoints, true)},
		{removed, c.writeSlice(ctx, n, nil), c.serves(n, c.size.Endpoints, false)},
		{unready, c.writeSlice(ctx, n, makeUnready), c.serves(n, c.size.Endpoints-1, false)},
		{"", c.writeSlice(ctx, n, nil), c.serves(n, c.size.Endpoints-1, true)},
		{"", func() {
			for _, s := range o.Slices {
				must(endpoints.Create(ctx, s, metav1.CreateOptions{}))
			}
		}, nil},
		{serviceAdded, func() { must(services.Create(ctx, o.Service, metav1.CreateOptions{})) }, func() bool { return c.complete(extra) }},
		{serviceDeleted, func() { check(services.Delete(ctx, o.Service.Name, metav1.DeleteOptions{})) }, func() bool { return c.silent(extra) }},
		{serviceGone, nil, func() bool { return c.gone(extra) }},
		{"", func() {
			for _, s := range o.Slices {
				check(endpoints.Delete(ctx, s.Name, metav1.DeleteOptions{}))
			}
		}, nil},
	}
}

// complete reports whether the kernel has all rows of a Service.
func (c *changer) complete(n int) bool {
	return len(must(c.look.Weights(serverOf(n)))) >= c.size.Endpoints &&
		must(c.look.Local(serverOf(n).Address.Addr())) && must(c.look.Has(entryOf(n)))
}

// silent reports whether a Service takes no connections.
func (c *changer) silent(n int) bool {
	weights := slices.Collect(maps.Values(must(c.look.Weights(serverOf(n)))))
	return !slices.ContainsFunc(weights, func(w int) bool { return w > 0 })
}

// gone reports whether the kernel has no row of a Service.
func (c *changer) gone(n int) bool {
	return !must(c.look.Served(serverOf(n))) && !must(c.look.Local(serverOf(n).Address.Addr())) && !must(c.look.Has(entryOf(n)))
}

// serves looks whether an endpoint gets connections of its Service, as it should or not.
func (c *changer) serves(n, endpoint int, should bool) func() bool {
	server, at := serverOf(n), endpointOf(c.size, n, endpoint)
	return func() bool { return must(c.look.Weights(server))[at] > 0 == should }
}

// time makes a change, and measures how long it takes until it is answered and done.
func (c *changer) time(ctx context.Context, s step) {
	found, answered := c.found[s.kind], make(chan error, 1)
	if s.write == nil {
		answered <- nil
	} else {
		if s.done != nil {
			check(sleep(ctx, quiet))
		}
		c.began = time.Now()
		go func() {
			err := attempt(s.write)
			found.Answered = append(found.Answered, time.Since(c.began).Seconds())
			answered <- err
		}()
	}
	var waited error
	if s.done != nil {
		waited = attempt(func() { c.await(ctx, s.kind, often, s.done) })
		found.Took = append(found.Took, time.Since(c.began).Seconds())
	}
	check(<-answered)
	check(waited)
}

// makeUnready makes the last endpoint unready.
func makeUnready(s *discoveryv1.EndpointSlice) {
	no := false
	c := &s.Endpoints[len(s.Endpoints)-1].Conditions
	c.Ready, c.Serving = &no, &no
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
