// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Run writes events until ctx ends. What waits then is not written any more.
func (r *Recorder) Run(ctx context.Context) {
	for ctx.Err() == nil {
		e, pause := r.next()
		if e != nil {
			r.write(ctx, e)
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-time.After(pause):
		}
	}
}

// next takes the event that waited longest, if it is due, or says when to look
// again.
func (r *Recorder) next() (*eventsv1.Event, time.Duration) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(r.queue) == 0 {
		return nil, time.Hour
	}
	first := 0
	for i, w := range r.queue {
		if w.due.Before(r.queue[first].due) {
			first = i
		}
	}
	w := r.queue[first]
	if pause := time.Until(w.due); pause > 0 {
		return nil, pause
	}
	r.queue = slices.Delete(r.queue, first, first+1)
	return w.event, 0
}

// write writes one event, however long the API server is away: the others wait
// meanwhile, and only so many.
func (r *Recorder) write(ctx context.Context, e *eventsv1.Event) {
	again := wait.Backoff{Duration: 5 * time.Second, Factor: 2, Jitter: 0.5, Steps: 10, Cap: time.Minute}
	for {
		if r.budget.Wait(ctx) != nil {
			return
		}
		err := r.create(ctx, e)
		if !mayPass(err) {
			r.settle(e, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again.Step()):
		}
	}
}

// mayPass says whether the same request may succeed later.
func mayPass(err error) bool {
	if err == nil {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // nobody answered
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}

func (r *Recorder) settle(e *eventsv1.Event, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	switch {
	case err == nil:
		r.counts.Written++
		r.refused = false
	case apierrors.IsAlreadyExists(err):
		r.counts.Known++
	default:
		r.counts.Refused++
		if leaving := apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause); !leaving && !r.refused {
			r.refused = true
			r.log.Warn("API server refuses an event; what follows is only counted", zap.String("event", e.Namespace+"/"+e.Name),
				zap.String("reason", e.Reason), zap.Error(err))
		}
	}
}
