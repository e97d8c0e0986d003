// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// stride leads from one Service to the next: to all of them, and not to neighbours.
const stride = 7919

// quiet is the pause between two changes, so that none meets what another one left to do.
const quiet = 100 * time.Millisecond

// changing measures single changes, one after the other.
type changing struct {
	*runner
	found map[string]*report.Change
}

// measureChanges measures each kind of change as often as the options say, or as the time allows.
func (r *runner) measureChanges(ctx context.Context, run *report.Run) error {
	c := changing{r, map[string]*report.Change{}}
	for _, kind := range report.Kinds() {
		c.found[kind] = &report.Change{Kind: kind}
	}
	stop := r.profile(phaseChanges)
	defer stop()
	const least = 3
	end := time.Now().Add(r.options.budget)
	for i := range r.options.times {
		if i >= least && time.Now().After(end) {
			break
		}
		if err := c.turn(ctx, i); err != nil {
			return errors.Join(err, c.restore(context.WithoutCancel(ctx), i))
		}
	}
	for _, kind := range report.Kinds() {
		one := *c.found[kind]
		run.Changes = append(run.Changes, one)
		r.say("  %s: p50 %.4f s, p99 %.4f s of %d; until the API server answered p50 %.4f s", kind,
			report.Median(one.Took), report.Quantile(one.Took, 0.99), len(one.Took), report.Median(one.Answered))
	}
	return nil
}

// turn makes one change of each kind, after which all is as before.
func (c changing) turn(ctx context.Context, i int) error {
	n := i * stride % c.size.Services
	for _, step := range []struct {
		kind  string // empty: it only has to be done
		write func(context.Context) error
		done  func(context.Context) (bool, error)
	}{
		{report.Added, c.writeSlice(n, c.extra(n)), c.serves(n, c.size.Endpoints, true)},
		{report.Removed, c.writeSlice(n, nil), c.serves(n, c.size.Endpoints, false)},
		{report.Unready, c.writeSlice(n, unready), c.serves(n, c.size.Endpoints-1, false)},
		{"", c.writeSlice(n, nil), c.serves(n, c.size.Endpoints-1, true)},
	} {
		if err := c.time(ctx, step.kind, step.write, step.done); err != nil {
			return err
		}
	}
	return c.service(ctx, c.size.Services+i)
}

// restore takes back what a turn that was not ended has changed.
func (c changing) restore(ctx context.Context, i int) error {
	o := c.size.Service(c.size.Services+i, 0)
	err := c.api.CoreV1().Services(o.Service.Namespace).Delete(ctx, o.Service.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	for _, s := range o.Slices {
		gone := c.api.DiscoveryV1().EndpointSlices(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{})
		if !apierrors.IsNotFound(gone) {
			err = errors.Join(err, gone)
		}
	}
	return errors.Join(err, c.writeSlice(i*stride%c.size.Services, nil)(ctx))
}

// service makes and deletes a Service whose endpoints are there already, and still are.
func (c changing) service(ctx context.Context, n int) error {
	o := c.size.Service(n, 0)
	slices := c.api.DiscoveryV1().EndpointSlices(o.Service.Namespace)
	for _, s := range o.Slices {
		if _, err := slices.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create EndpointSlice %s: %w", s.Name, err)
		}
	}
	services := c.api.CoreV1().Services(o.Service.Namespace)
	err := c.time(ctx, report.ServiceAdded, func(ctx context.Context) error {
		_, err := services.Create(ctx, o.Service, metav1.CreateOptions{})
		return err
	}, func(ctx context.Context) (bool, error) { return c.complete(ctx, n) })
	if err != nil {
		return err
	}
	if err := c.delete(ctx, n, o); err != nil {
		return err
	}
	for _, s := range o.Slices {
		if err := slices.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete EndpointSlice %s: %w", s.Name, err)
		}
	}
	return sleep(ctx, quiet)
}

// delete deletes a Service, and waits twice: until it takes no connections any more, and until nothing is left of it.
func (c changing) delete(ctx context.Context, n int, o plan.Objects) error {
	began := time.Now()
	err := c.time(ctx, report.ServiceDeleted, func(ctx context.Context) error {
		return c.api.CoreV1().Services(o.Service.Namespace).Delete(ctx, o.Service.Name, metav1.DeleteOptions{})
	}, func(ctx context.Context) (bool, error) {
		weights, err := c.look.Weights(ctx, serverOf(n))
		for _, w := range weights {
			if w > 0 {
				return false, err
			}
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return c.wait(ctx, report.ServiceGone, began, func(ctx context.Context) (bool, error) { return c.gone(ctx, n) })
}

// complete reports whether the kernel has all rows of a Service.
func (c changing) complete(ctx context.Context, n int) (bool, error) {
	weights, err := c.look.Weights(ctx, serverOf(n))
	if err != nil || len(weights) < c.size.Endpoints {
		return false, err
	}
	if local, err := c.look.Local(ctx, serverOf(n).Address.Addr()); err != nil || !local {
		return false, err
	}
	return c.look.Has(ctx, entryOf(n))
}

// gone reports whether the kernel has no row of a Service.
func (c changing) gone(ctx context.Context, n int) (bool, error) {
	if served, err := c.look.Served(ctx, serverOf(n)); err != nil || served {
		return false, err
	}
	if local, err := c.look.Local(ctx, serverOf(n).Address.Addr()); err != nil || local {
		return false, err
	}
	has, err := c.look.Has(ctx, entryOf(n))
	return !has, err
}

// time writes, and measures how long it takes until it is done.
func (c changing) time(ctx context.Context, kind string, write func(context.Context) error, done func(context.Context) (bool, error)) error {
	if err := sleep(ctx, quiet); err != nil {
		return err
	}
	type answer struct {
		after time.Duration
		err   error
	}
	answers, began := make(chan answer, 1), time.Now()
	go func() {
		err := write(ctx)
		answers <- answer{time.Since(began), err}
	}()
	waited := c.wait(ctx, kind, began, done)
	a := <-answers
	if a.err != nil {
		return fmt.Errorf("write to the API for %q: %w", kind, a.err)
	}
	if kind != "" {
		c.found[kind].Answered = append(c.found[kind].Answered, report.Of(a.after))
	}
	return waited
}

// wait waits until something is done that was begun, and notes how long it took.
func (c changing) wait(ctx context.Context, kind string, began time.Time, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.limit, errExceeded)
	defer cancel()
	err := poll(ctx, often, func() (bool, error) {
		yes, err := done(ctx)
		if !yes && err == nil {
			err = c.daemon.Alive()
		}
		return yes, err
	})
	if err != nil {
		return c.late(err, kind)
	}
	if kind != "" {
		c.found[kind].Took = append(c.found[kind].Took, report.Of(time.Since(began)))
	}
	return nil
}

// extra adds the first endpoint that a Service does not have.
func (r *runner) extra(n int) func(*discoveryv1.EndpointSlice) {
	return func(s *discoveryv1.EndpointSlice) {
		s.Endpoints = append(s.Endpoints, r.size.Endpoint(corev1.IPv4Protocol, n, r.size.Endpoints))
	}
}

// unready makes the last endpoint unready.
func unready(s *discoveryv1.EndpointSlice) {
	no := false
	c := &s.Endpoints[len(s.Endpoints)-1].Conditions
	c.Ready, c.Serving = &no, &no
}

// writeSlice makes the last EndpointSlice of a Service what it was at first, but for one change.
func (r *runner) writeSlice(n int, change func(*discoveryv1.EndpointSlice)) func(context.Context) error {
	o := r.size.Service(n, 0)
	slice := o.Slices[len(o.Slices)-1]
	if change != nil {
		change(slice)
	}
	return func(ctx context.Context) error { return r.update(ctx, slice) }
}

// update writes an EndpointSlice. What became of it nobody reads.
func (s *site) update(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
	err := s.api.DiscoveryV1().RESTClient().Put().Namespace(slice.Namespace).Resource("endpointslices").Name(slice.Name).
		Body(slice).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("update EndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// serves looks whether an endpoint gets connections of its Service, as it should or not.
func (r *runner) serves(n, endpoint int, should bool) func(context.Context) (bool, error) {
	server, at := serverOf(n), r.at(n, endpoint)
	return func(ctx context.Context) (bool, error) {
		weights, err := r.look.Weights(ctx, server)
		return weights[at] > 0 == should, err
	}
}

// at is where the endpoint i of the Service n is.
func (r *runner) at(n, i int) netip.AddrPort {
	e := r.size.Endpoint(corev1.IPv4Protocol, n, i)
	return netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), large.TargetPort)
}
