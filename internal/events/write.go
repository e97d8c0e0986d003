// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
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

// Run writes events until ctx ends. Events that wait then are lost.
func (r *Recorder) Run(ctx context.Context) {
	patience := wait.Backoff{Duration: tryFirst, Factor: 2, Jitter: 0.5, Steps: 10, Cap: time.Minute}
	away := patience // while the API server does not answer
	for ctx.Err() == nil {
		w, pause := r.next()
		if w.event == nil {
			select {
			case <-ctx.Done():
			case <-r.wake:
			case <-time.After(pause):
			}
			continue
		}
		if r.write(ctx, w) {
			away = patience
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(away.Step()):
		}
	}
}

// next takes an event that is due, or returns when to look again. Fewer tries come first, then longer waits.
func (r *Recorder) next() (waiter, time.Duration) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now, pause := time.Now(), time.Hour
	first := -1
	for i, w := range r.queue {
		if early := w.due.Sub(now); early > 0 {
			pause = min(pause, early)
			continue
		}
		if first < 0 || w.before(r.queue[first]) {
			first = i
		}
	}
	if first < 0 {
		return waiter{}, pause
	}
	w := r.queue[first]
	r.queue = slices.Delete(r.queue, first, first+1)
	return w, 0
}

func (w waiter) before(o waiter) bool {
	return cmp.Or(cmp.Compare(w.tries, o.tries), w.due.Compare(o.due)) < 0
}

// write tries to write one event, and reports whether the API server answered. If it did not, or asks for
// patience, all events wait, however long. If it answers with a failure, the cause may be this one event, as
// where a webhook for its namespace fails: it is retried later, and others go on.
func (r *Recorder) write(ctx context.Context, w waiter) (answered bool) {
	if r.budget.Wait(ctx) != nil {
		return false
	}
	err := r.create(ctx, w.event)
	switch code, answered := answer(err); {
	case !answered || code == http.StatusTooManyRequests:
		r.wait(waiter{w.event, time.Now(), w.tries})
		return false
	case code >= http.StatusInternalServerError:
		r.postpone(w, err)
	default:
		r.settle(w.event, err)
	}
	return true
}

// postpone makes an event wait longer each time, and gives up at the age at which the cluster would forget
// it.
func (r *Recorder) postpone(w waiter, err error) {
	now := time.Now()
	pause := wait.Jitter(min(tryFirst<<w.tries, tryLast), 0.5)
	if now.Add(pause).Sub(w.event.EventTime.Time) > kept {
		r.settle(w.event, err)
		return
	}
	r.wait(waiter{w.event, now.Add(pause), w.tries + 1})
}

// answer returns the status of the API server's answer; false: it did not answer.
func answer(err error) (code int32, answered bool) {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return http.StatusCreated, true
	case errors.As(err, &status):
		return status.Status().Code, true
	}
	return 0, false
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
			r.log.Warn("API server refused an event; further refusals are only counted", zap.String("event", e.Namespace+"/"+e.Name),
				zap.String("reason", e.Reason), zap.Error(err))
		}
	}
}
