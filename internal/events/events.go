// SPDX-License-Identifier: Apache-2.0

// Package events reports problems of Services and of this node as events of the API (events.k8s.io/v1).
//
// Every node sees what is wrong with a Service. So the name of an event is made of the Service's UID, the reason and
// the note: the first node that writes it makes the only event, and others learn that it exists. A node first waits for
// a random part of half a minute, and has a budget (burst, then one event in refill): 5,000 nodes and any number of bad
// Services cost at most 170 small requests a second. Choosing one node to report would need to know the others, which
// differ in kernels, addresses and gateways.
//
// There are no series. A lasting fact is reported once in the time that the cluster keeps events. Reporting never
// blocks: if too many events wait, random ones are dropped and counted, so that nodes report different ones.
package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	controller = "kube-ipvs"

	spread   = 30 * time.Second // over which nodes report the same fact
	burst    = 20               // events that a node may write at once
	refill   = 30 * time.Second // until it may write one more
	waiting  = 256              // maximum number of waiting events
	kept     = time.Hour        // how long a cluster keeps events by default
	remember = 1024             // number of reported events to remember

	tryFirst = 5 * time.Second  // until an event that the API server failed to write is retried
	tryLast  = 10 * time.Minute // the longest such pause; it doubles each time

	maxNote = 1024 // bytes, by the API
	maxName = 200  // of the first part of an event's name
)

// The actions of events.
const (
	actionServe  = "Serve"
	actionListen = "Listen"         // kube-proxy's word
	actionStart  = "StartKubeProxy" // likewise
)

// Counts counts events by result.
type Counts struct {
	Written int // by us
	Known   int // another node was first
	Refused int // by the API server
	Dropped int // for lack of room
}

// Recorder writes events. A nil one does nothing.
type Recorder struct {
	node   string
	log    *zap.Logger
	create func(context.Context, *eventsv1.Event) error
	budget flowcontrol.RateLimiter
	wake   chan struct{}

	mutex    sync.Mutex
	queue    []waiter
	reported map[string]time.Time // when, by name
	counts   Counts
	refused  bool // a refusal was logged
}

type waiter struct {
	event *eventsv1.Event
	due   time.Time
	tries uint // so far
}

// New returns a Recorder of the events of this node. Run writes them, to the API group for events.
func New(c rest.Interface, node string, log *zap.Logger) *Recorder {
	return &Recorder{
		node: node,
		log:  log,
		create: func(ctx context.Context, e *eventsv1.Event) error {
			return c.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
		},
		budget:   flowcontrol.NewTokenBucketRateLimiter(float32(1/refill.Seconds()), burst),
		wake:     make(chan struct{}, 1),
		reported: map[string]time.Time{},
	}
}

// Service reports a problem of a Service that every node sees.
func (r *Recorder) Service(s *corev1.Service, reason, note string) {
	if r != nil {
		r.about(s, reason, actionServe, note, rand.N(spread))
	}
}

// Here reports what this node cannot do for a Service.
func (r *Recorder) Here(s *corev1.Service, reason, note string) {
	if r != nil {
		r.about(s, reason, actionListen, fmt.Sprintf("node %s: %s", r.node, note), 0)
	}
}

func (r *Recorder) about(s *corev1.Service, reason, action, note string, delay time.Duration) {
	e := r.event(corev1.EventTypeWarning, reason, action, note)
	e.Namespace = s.Namespace
	e.Name = name(s.Name, hash(string(s.UID), reason, note))
	e.Regarding = corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.UID}
	r.put(e, delay)
}

// Node reports something about this node; kind is Normal or Warning.
func (r *Recorder) Node(kind, reason, note string) {
	if r == nil {
		return
	}
	e := r.event(kind, reason, actionStart, note)
	e.Namespace = metav1.NamespaceDefault
	e.Name = name(r.node, hash(r.node, reason, note, e.EventTime.String()))
	// As the kubelet writes and kubectl expects, the UID of a Node in events is its name.
	e.Regarding = corev1.ObjectReference{Kind: "Node", Name: r.node, UID: types.UID(r.node)}
	r.put(e, 0)
}

// Counts returns the counts so far.
func (r *Recorder) Counts() Counts {
	if r == nil {
		return Counts{}
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.counts
}

func (r *Recorder) event(kind, reason, action, note string) *eventsv1.Event {
	return &eventsv1.Event{
		EventTime:           metav1.NowMicro(),
		ReportingController: controller,
		ReportingInstance:   cut(controller+"-"+r.node, 128),
		Type:                kind,
		Reason:              reason,
		Action:              action,
		Note:                cut(note, maxNote),
	}
}

// put queues an event, unless it was reported lately.
func (r *Recorder) put(e *eventsv1.Event, delay time.Duration) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now := e.EventTime.Time
	key := e.Namespace + "/" + e.Name
	if at, ok := r.reported[key]; ok && now.Sub(at) < kept {
		return
	}
	if len(r.reported) >= remember {
		clear(r.reported) // the API server will say that an event exists already
	}
	r.reported[key] = now
	r.enqueue(waiter{event: e, due: now.Add(delay)})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Recorder) wait(w waiter) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.enqueue(w)
}

// enqueue queues an event, and drops a random one if there are too many.
func (r *Recorder) enqueue(w waiter) {
	if len(r.queue) < waiting {
		r.queue = append(r.queue, w)
		return
	}
	r.counts.Dropped++
	if i := rand.IntN(waiting + 1); i < waiting {
		r.queue[i], w = w, r.queue[i]
	}
	delete(r.reported, w.event.Namespace+"/"+w.event.Name)
}

// name returns the name of an event: what it is about, as far as there is room, and its hash.
func name(about, hash string) string {
	return strings.TrimRight(cut(about, maxName), ".-") + "." + hash
}

func hash(parts ...string) string {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p + "\x00")) // never fails
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// cut returns at most n bytes of text, with whole letters.
func cut(text string, n int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// Run writes events until ctx ends. Events that wait then are lost.
func (r *Recorder) Run(ctx context.Context) {
	patience := wait.Backoff{Duration: tryFirst, Factor: 2, Jitter: 0.5, Steps: 10, Cap: time.Minute}
	away := patience // while the API server does not answer
	for ctx.Err() == nil {
		w, pause := r.next()
		wake := r.wake
		if w.event != nil {
			if r.write(ctx, w) {
				away = patience
				continue
			}
			pause, wake = away.Step(), nil
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-time.After(pause):
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

// write tries to write one event, and reports whether the API server answered. If it did not, or asks for patience, all
// events wait, however long. If it answers with a failure, the cause may be this one event, as where a webhook for its
// namespace fails: it is retried later, and others go on.
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

// postpone makes an event wait longer each time, until the cluster would have forgotten it.
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
