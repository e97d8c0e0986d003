// SPDX-License-Identifier: Apache-2.0

// Package events tells people of Services and of this node where they look for it: as events of the API
// (events.k8s.io/v1). What is told when is others' choice; reading events is nobody's.
//
// What is wrong with a Service is seen by every node, and there are thousands of nodes. So a fact has one
// name, made of the Service's UID, the reason and the note: the first node that writes it makes the one event
// there is, and the others learn that it exists. A node waits for a random part of half a minute first, and
// has a budget (burst, then one event in refill), so that the requests of all nodes together stay few: 5,000
// nodes and any number of bad Services cost at most 170 small requests a second. A choice of one node that
// tells would need to know who the others are, whether they run, and whether they see the same: nodes differ
// in kernels, addresses and gateways.
//
// There are no series. A fact that lasts is told once in the time that the cluster keeps events for; what
// only this node sees has the node in its name.
//
// Telling never makes anybody wait. What waits is bounded; when there is more, a part is dropped at random,
// so that each node tells of another part, and it is counted.
package events

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	controller = "kube-ipvs"

	spread   = 30 * time.Second // over which nodes tell the same
	burst    = 20               // events that a node may write at once
	refill   = 30 * time.Second // until it may write one more
	waiting  = 256              // events that may wait
	kept     = time.Hour        // for which a cluster keeps events, if nobody chose otherwise
	remember = 1024             // events that were told

	tryFirst = 5 * time.Second  // until an event that the API server failed to write is tried again
	tryLast  = 10 * time.Minute // the same at most: it is twice as long each time

	maxNote = 1024 // bytes, by the API
	maxName = 200  // of what a name of an event begins with
)

// The actions of events: what was tried.
const (
	actionServe  = "Serve"
	actionListen = "Listen"         // kube-proxy's word
	actionStart  = "StartKubeProxy" // likewise
)

// Counts are how many events met which fate.
type Counts struct {
	Written int // by us
	Known   int // another node was first
	Refused int // by the API server
	Dropped int // for want of room
}

// Recorder writes events. A nil one tells nobody.
type Recorder struct {
	node   string
	log    *zap.Logger
	create func(context.Context, *eventsv1.Event) error
	budget flowcontrol.RateLimiter
	wake   chan struct{}

	mutex   sync.Mutex
	queue   []waiter
	told    map[string]time.Time // by name, when
	counts  Counts
	refused bool // that it is was logged
}

// waiter is an event that is to be written.
type waiter struct {
	event *eventsv1.Event
	due   time.Time
	tries uint // so far
}

// New returns a Recorder of the events of this node. They are written by Run, to the group of the API for
// events.
func New(c rest.Interface, node string, log *zap.Logger) *Recorder {
	return &Recorder{
		node: node,
		log:  log,
		create: func(ctx context.Context, e *eventsv1.Event) error {
			return c.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
		},
		budget: flowcontrol.NewTokenBucketRateLimiter(float32(1/refill.Seconds()), burst),
		wake:   make(chan struct{}, 1),
		told:   map[string]time.Time{},
	}
}

// Service tells what is wrong with a Service, as every node sees it.
func (r *Recorder) Service(s *corev1.Service, reason, note string) {
	if r == nil {
		return
	}
	e := r.event(corev1.EventTypeWarning, reason, actionServe, note)
	r.about(e, s, hash(string(s.UID), reason, note))
	r.put(e, rand.N(spread))
}

// Here tells what this node can't do for a Service.
func (r *Recorder) Here(s *corev1.Service, reason, note string) {
	if r == nil {
		return
	}
	note = fmt.Sprintf("node %s: %s", r.node, note)
	e := r.event(corev1.EventTypeWarning, reason, actionListen, note)
	r.about(e, s, hash(string(s.UID), reason, note))
	r.put(e, 0)
}

// Node tells something of this node; kind is Normal or Warning.
func (r *Recorder) Node(kind, reason, note string) {
	if r == nil {
		return
	}
	e := r.event(kind, reason, actionStart, note)
	e.Namespace = metav1.NamespaceDefault
	e.Name = name(r.node, hash(r.node, reason, note, e.EventTime.String()))
	// The UID of a Node in events is its name, by what kubelets write and kubectl looks for.
	e.Regarding = corev1.ObjectReference{Kind: "Node", Name: r.node, UID: types.UID(r.node)}
	r.put(e, 0)
}

// Counts are those so far.
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

func (r *Recorder) about(e *eventsv1.Event, s *corev1.Service, fact string) {
	e.Namespace = s.Namespace
	e.Name = name(s.Name, fact)
	e.Regarding = corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.UID}
}

// put lets an event wait, unless it was told lately.
func (r *Recorder) put(e *eventsv1.Event, delay time.Duration) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now := e.EventTime.Time
	key := e.Namespace + "/" + e.Name
	if at, ok := r.told[key]; ok && now.Sub(at) < kept {
		return
	}
	if len(r.told) >= remember {
		clear(r.told) // that an event exists already is then learned from the API server
	}
	r.told[key] = now
	r.enqueue(waiter{event: e, due: now.Add(delay)})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// wait lets an event that is not written yet wait again.
func (r *Recorder) wait(w waiter) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.enqueue(w)
}

// enqueue lets an event wait, and drops one at random if there are too many.
func (r *Recorder) enqueue(w waiter) {
	if len(r.queue) < waiting {
		r.queue = append(r.queue, w)
		return
	}
	r.counts.Dropped++
	if i := rand.IntN(waiting + 1); i < waiting {
		r.queue[i], w = w, r.queue[i]
	}
	delete(r.told, w.event.Namespace+"/"+w.event.Name)
}

// name is that of an event: what it is about, as far as there is room, and its hash.
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

// cut is text in at most n bytes, with whole letters.
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
