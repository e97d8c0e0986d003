// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var errNoAnswer = errors.New("the API server did not answer")

// requests are how the reflector lists and watches.
func (f *feed) requests() *cache.ListWatch {
	return &cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}
}

func (f *feed) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	l := &list{fresh: f.kind.object.DeepCopyObject, item: func(o runtime.Object) (item, error) { return f.item(o) }}
	err := f.request(o).Do(ctx).Into(l)
	if err != nil {
		f.judge(ctx, err)
	}
	return l, err // that the server can be followed is for the watch to show
}

func (f *feed) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	w, err := f.request(o).Watch(ctx)
	if err == nil && isEmpty(w) {
		err = errNoAnswer
	}
	if err == nil {
		f.judge(ctx, nil)
		return newStream(w), nil
	}
	if isAnswer(err) && !apierrors.IsTooManyRequests(err) && (o.SendInitialEvents != nil || isStale(err)) {
		return nil, err // a list is asked for next, and tells
	}
	f.judge(ctx, err)
	return nil, resumable(err)
}

// request asks once: when to ask again is the reflector's choice, and client-go would ask ten times first.
func (f *feed) request(o metav1.ListOptions) *rest.Request {
	o.LabelSelector, o.FieldSelector = f.kind.labels, f.kind.fields
	var timeout time.Duration
	if o.TimeoutSeconds != nil {
		timeout = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	return f.kind.client.Get().Resource(f.kind.resource).SpecificallyVersionedParams(&o, metav1.ParameterCodec, metav1.Unversioned).Timeout(timeout).MaxRetries(0)
}

// judge tells the link what an answer, or none, says of it.
func (f *feed) judge(ctx context.Context, err error) {
	if err == nil {
		f.refused = time.Time{}
	}
	switch {
	case ctx.Err() != nil:
	case err == nil, f.kind.optional && isRefusal(err):
		f.link.answered(f.kind.resource)
	default:
		f.link.failed(f.kind.resource, err)
	}
}

// resumable makes an error of which no answer came one that a reflector takes for a refused connection: it
// then tries to watch on from where it was, and does not list all objects anew, which from every node of a
// large cluster would keep an API server that has just come back from doing so.
func resumable(err error) error {
	if isAnswer(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, syscall.ECONNREFUSED)
}

// isAnswer says whether an error is what an API server said.
func isAnswer(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// isStale says whether the version that was asked for is none to watch on from.
func isStale(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// isRefusal says whether an error means that the server has no such kind, or not for us.
func isRefusal(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) }

// isEmpty says whether w is what client-go has in place of an error when a connection timed out or ended
// before an answer.
func isEmpty(w watch.Interface) bool {
	return reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch())
}

// stream is a watch that just ends where client-go makes an error of the API server of a connection that
// broke, upon which a reflector would list all objects anew.
type stream struct {
	watch.Interface
	events chan watch.Event
	once   sync.Once // reflectors stop a watch twice
	done   chan struct{}
}

func newStream(w watch.Interface) *stream {
	s := &stream{Interface: w, events: make(chan watch.Event), done: make(chan struct{})}
	go s.pass()
	return s
}

func (s *stream) pass() {
	defer close(s.events)
	for e := range s.Interface.ResultChan() {
		if e.Type == watch.Error && isBroken(e.Object) {
			return
		}
		select {
		case s.events <- e:
		case <-s.done:
			return
		}
	}
}

// ResultChan is where events come.
func (s *stream) ResultChan() <-chan watch.Event { return s.events }

// Stop ends the watch.
func (s *stream) Stop() {
	s.once.Do(func() { close(s.done) })
	s.Interface.Stop()
}

// isBroken knows client-go's own error by its reporter's cause.
func isBroken(o runtime.Object) bool {
	status, ok := o.(*metav1.Status)
	return ok && status.Code == http.StatusInternalServerError && apierrors.HasStatusCause(apierrors.FromObject(status), "ClientWatchDecoding")
}
