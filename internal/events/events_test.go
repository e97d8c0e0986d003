// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// server keeps events like an API server.
type server struct {
	mutex  sync.Mutex
	events map[string]*eventsv1.Event
	order  []*eventsv1.Event
	asked  int
	fails  func(*eventsv1.Event) error // nil: never
}

func newServer() *server { return &server{events: map[string]*eventsv1.Event{}} }

func (s *server) create(_ context.Context, e *eventsv1.Event) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.asked++
	if s.fails != nil {
		if err := s.fails(e); err != nil {
			return err
		}
	}
	key := e.Namespace + "/" + e.Name
	if s.events[key] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, e.Name)
	}
	s.events[key] = e
	s.order = append(s.order, e)
	return nil
}

func (s *server) fail(f func(*eventsv1.Event) error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.fails = f
}

// requests returns how many there were.
func (s *server) requests() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.asked
}

func recorder(t *testing.T, s *server, node string) (*Recorder, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	r := New(nil, node, zap.New(core))
	r.create = s.create
	go r.Run(t.Context())
	return r, logs
}

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid of web"}}
}

// pass lets time pass and runs what is due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wantCounts(t *testing.T, r *Recorder, want Counts) {
	t.Helper()
	if d := cmp.Diff(want, r.Counts()); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

func TestWhatAnEventSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, _ := recorder(t, s, "node-1")
		r.Node(corev1.EventTypeNormal, "Starting", "")
		pass(time.Second)
		r.Here(service("web"), "FailedToStartServiceHealthcheck", "port 30000 is taken")
		pass(time.Second)
		r.Service(service("web"), "InvalidAddress", "spec.externalIPs[0]: no address")
		pass(time.Minute)
		about := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "web", UID: "uid of web"}
		want := []*eventsv1.Event{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Type: "Normal", Reason: "Starting", Action: "StartKubeProxy",
			Regarding: corev1.ObjectReference{Kind: "Node", Name: "node-1", UID: "node-1"},
		}, {
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Type: "Warning", Reason: "FailedToStartServiceHealthcheck", Action: "Listen",
			Note: "node node-1: port 30000 is taken", Regarding: about,
		}, {
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Type: "Warning", Reason: "InvalidAddress", Action: "Serve",
			Note: "spec.externalIPs[0]: no address", Regarding: about,
		}}
		for _, e := range want {
			e.ReportingController, e.ReportingInstance = "kube-ipvs", "kube-ipvs-node-1"
		}
		ignore := cmp.Options{cmpopts.IgnoreFields(metav1.ObjectMeta{}, "Name"), cmpopts.IgnoreFields(eventsv1.Event{}, "EventTime")}
		if d := cmp.Diff(want, s.order, ignore); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		for _, e := range s.order {
			if e.EventTime.IsZero() || !strings.HasPrefix(e.Name, e.Regarding.Name+".") {
				t.Errorf("%s happened at %v", e.Name, e.EventTime)
			}
		}
		wantCounts(t, r, Counts{Written: 3})
	})
}

func TestManyNodesMakeOneEventOfAFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		written, known := 0, 0
		var all []*Recorder
		for i := range 50 {
			r, _ := recorder(t, s, fmt.Sprintf("node-%d", i))
			r.Service(service("web"), "InvalidPort", "spec.ports[0]: no port")
			r.Here(service("web"), "FailedToStartServiceHealthcheck", "port 30000 is taken")
			all = append(all, r)
		}
		pass(time.Second)
		if n := s.requests(); n > 50+10 {
			t.Errorf("all nodes came at once: %d requests", n)
		}
		pass(time.Minute)
		for _, r := range all {
			written, known = written+r.Counts().Written, known+r.Counts().Known
		}
		if len(s.order) != 51 || written != 51 || known != 49 {
			t.Errorf("%d events, %d were written and %d known", len(s.order), written, known)
		}
	})
}

func TestAFactIsToldOnceAsLongAsItsEventIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, _ := recorder(t, s, "node-1")
		for range 3 {
			r.Service(service("web"), "InvalidPort", "spec.ports[0]: no port")
			r.Service(service("web"), "InvalidPort", "spec.ports[1]: no port")
			pass(time.Minute)
		}
		wantCounts(t, r, Counts{Written: 2})
		clear(s.events) // the cluster forgets
		pass(kept)
		r.Service(service("web"), "InvalidPort", "spec.ports[0]: no port")
		pass(time.Minute)
		wantCounts(t, r, Counts{Written: 3})
	})
}

func TestAnAPIServerThatIsAwayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, logs := recorder(t, s, "node-1")
		s.fail(func(*eventsv1.Event) error { return errors.New("connection refused") })
		for i := range 5 {
			r.Here(service("web"), "Reason", fmt.Sprint("note ", i))
		}
		pass(30 * time.Minute)
		if s.requests() > 60 {
			t.Errorf("it was asked %d times", s.requests())
		}
		s.fail(func(*eventsv1.Event) error { return apierrors.NewInternalError(errors.New("no etcd")) })
		pass(5 * time.Minute)
		wantCounts(t, r, Counts{})
		s.fail(nil)
		pass(10 * time.Minute)
		wantCounts(t, r, Counts{Written: 5})
		if logs.Len() > 0 {
			t.Errorf("it was logged: %v", logs.All())
		}
	})
}

// A webhook that fails for one namespace makes the API server answer 500 to events of that namespace, and of no other.
func TestAnEventThatTheAPIServerCannotWriteHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, logs := recorder(t, s, "node-1")
		tried := map[string]int{}
		odd := func(e *eventsv1.Event) error {
			tried[e.Note]++
			if strings.Contains(e.Note, "odd") {
				return apierrors.NewInternalError(errors.New("failed calling webhook"))
			}
			return nil
		}
		s.fail(odd)
		r.Here(service("web"), "Reason", "odd 1")
		r.Here(service("web"), "Reason", "odd 2")
		for i := range 5 {
			r.Here(service("web"), "Reason", fmt.Sprint("note ", i))
		}
		pass(time.Second)
		wantCounts(t, r, Counts{Written: 5})

		s.fail(func(e *eventsv1.Event) error {
			if strings.Contains(e.Note, "odd 1") {
				return nil
			}
			return odd(e)
		})
		pass(tryLast)
		wantCounts(t, r, Counts{Written: 6})

		pass(kept)
		r.Here(service("web"), "Reason", "the last")
		pass(time.Second)
		wantCounts(t, r, Counts{Written: 7, Refused: 1})
		if n := tried["node node-1: odd 2"]; n > 20 {
			t.Errorf("one event was tried %d times", n)
		}
		if logs.Len() != 1 {
			t.Errorf("it was logged: %v", logs.All())
		}
	})
}

func TestARefusalIsSaidOnceAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, logs := recorder(t, s, "node-1")
		leaving := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "x", nil)
		leaving.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		s.fail(func(*eventsv1.Event) error { return leaving })
		r.Here(service("web"), "Reason", "of a namespace that goes")
		pass(time.Minute)
		if logs.Len() > 0 {
			t.Errorf("it was logged: %v", logs.All())
		}
		s.fail(func(*eventsv1.Event) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "x", errors.New("no role"))
		})
		for i := range 3 {
			r.Here(service("web"), "Reason", fmt.Sprint("note ", i))
			pass(time.Minute)
		}
		wantCounts(t, r, Counts{Refused: 4})
		if logs.Len() != 1 {
			t.Errorf("it was logged: %v", logs.All())
		}
	})
}

func TestAFloodIsBoundedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, _ := recorder(t, s, "node-1")
		const flood = 2000
		began := time.Now()
		for i := range flood {
			r.Service(service("web"), "InvalidPort", fmt.Sprint("note ", i))
		}
		if time.Since(began) > 0 {
			t.Errorf("reporting took %v", time.Since(began))
		}
		pass(spread)
		if s.requests() > burst+2 {
			t.Errorf("%d requests at once", s.requests())
		}
		pass(waiting * refill)
		c := r.Counts()
		if c.Written < waiting || c.Written > waiting+burst || c.Written+c.Dropped != flood {
			t.Errorf("counts are %+v", c)
		}
		var late []bool
		for _, e := range s.order {
			late = append(late, e.Note > "note 2")
		}
		if !slices.Contains(late, true) || !slices.Contains(late, false) {
			t.Error("only the first or only the last notes were reported")
		}
		if len(r.reported) > remember {
			t.Errorf("%d events are remembered", len(r.reported))
		}
	})
}

func TestNamesAndNotesFitTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r, _ := recorder(t, s, strings.Repeat("a.", 126)+"b")
		r.Node(corev1.EventTypeWarning, "Reason", strings.Repeat("ä", 2000)+"\xff")
		r.Node(corev1.EventTypeWarning, "Reason", "\xff")
		pass(time.Second)
		for _, e := range s.order {
			if len(e.Name) > 253 || strings.Contains(e.Name, "..") || len(e.ReportingInstance) > 128 {
				t.Errorf("bad names: %q %q", e.Name, e.ReportingInstance)
			}
			if len(e.Note) > maxNote || !utf8.ValidString(e.Note) {
				t.Errorf("a bad note of %d bytes", len(e.Note))
			}
		}
		if len(s.order) != 2 {
			t.Errorf("%d events", len(s.order))
		}
	})
}

func TestNobodyIsToldWithoutARecorder(t *testing.T) {
	var r *Recorder
	r.Node("Normal", "Starting", "")
	r.Service(service("web"), "Reason", "note")
	r.Here(service("web"), "Reason", "note")
	if r.Counts() != (Counts{}) {
		t.Error("something was counted")
	}
}
