// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// server is an API server in as much as reflectors know one: lists, watches, streaming lists, bookmarks, versions that
// expire, refusals, and broken connections. Selectors are only remembered.
type server struct {
	t    *testing.T
	http *httptest.Server

	mutex     sync.Mutex
	changed   *sync.Cond
	version   int
	oldest    int                       // of the versions that can be watched from
	objects   map[string]runtime.Object // by resource/namespace/name
	events    []event
	refused   map[string]int // resource to status
	away      bool           // all connections are cut, at once
	noStreams bool           // streaming lists are not known
	protobuf  bool           // lists are in protobuf
	pages     bool           // of one object each
	watches   map[string]int // that are open, by resource
	asked     []asked
	epoch     int             // of connections
	garbled   map[string]bool // resources whose watch breaks in the midst of an event
}

// event is what happened at a version.
type event struct {
	version  int
	kind     string
	resource string
	object   runtime.Object
}

// asked is a request.
type asked struct {
	resource string
	query    url.Values
}

func newServer(t *testing.T) *server {
	s := &server{t: t, version: 1, objects: map[string]runtime.Object{}, refused: map[string]int{}, watches: map[string]int{}, garbled: map[string]bool{}}
	s.changed = sync.NewCond(&s.mutex)
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.cut(true)
		s.http.Close()
	})
	return s
}

func (s *server) client() *Client {
	c, err := Connect(config.Client{Master: s.http.URL, QPS: -1}, "test")
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// locked works on the server and wakes its watches.
func (s *server) locked(do func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	do()
	s.changed.Broadcast()
}

// typeOf is that of a resource's objects.
func typeOf(resource string) metav1.TypeMeta {
	return map[string]metav1.TypeMeta{
		"services":       {APIVersion: "v1", Kind: "Service"},
		"nodes":          {APIVersion: "v1", Kind: "Node"},
		"endpointslices": {APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		"servicecidrs":   {APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
	}[resource]
}

func resourceOf(o runtime.Object) string {
	switch o.(type) {
	case *corev1.Service:
		return "services"
	case *corev1.Node:
		return "nodes"
	case *discoveryv1.EndpointSlice:
		return "endpointslices"
	}
	return "servicecidrs"
}

func keyOf(o runtime.Object) string {
	m, _ := meta.Accessor(o)
	return path.Join(resourceOf(o), m.GetNamespace(), m.GetName())
}

// put makes objects be there, all at once.
func (s *server) put(all ...runtime.Object) {
	s.locked(func() {
		for _, o := range all {
			o = o.DeepCopyObject()
			o.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(typeOf(resourceOf(o)).APIVersion, typeOf(resourceOf(o)).Kind))
			s.version++
			m, _ := meta.Accessor(o)
			m.SetResourceVersion(strconv.Itoa(s.version))
			kind := "ADDED"
			if s.objects[keyOf(o)] != nil {
				kind = "MODIFIED"
			}
			s.objects[keyOf(o)] = o
			s.events = append(s.events, event{s.version, kind, resourceOf(o), o})
		}
	})
}

func (s *server) remove(all ...runtime.Object) {
	s.locked(func() {
		for _, o := range all {
			s.version++
			last := s.objects[keyOf(o)]
			delete(s.objects, keyOf(o))
			s.events = append(s.events, event{s.version, "DELETED", resourceOf(last), last})
		}
	})
}

// cut ends all connections, and lets no other be of use if away.
func (s *server) cut(away bool) {
	s.locked(func() { s.away, s.epoch = away, s.epoch+1 })
	s.http.CloseClientConnections()
}

// compact forgets all that happened.
func (s *server) compact() {
	s.locked(func() {
		s.version++
		s.oldest, s.events = s.version, nil
	})
}

// requests are those for a resource for which a predicate holds.
func (s *server) requests(resource string, is func(url.Values) bool) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	n := 0
	for _, a := range s.asked {
		if a.resource == resource && is(a.query) {
			n++
		}
	}
	return n
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.away {
		panic(http.ErrAbortHandler)
	}
	resource, query := path.Base(r.URL.Path), r.URL.Query()
	s.asked = append(s.asked, asked{resource, query})
	from, _ := strconv.Atoi(query.Get("resourceVersion"))
	streams := query.Get("sendInitialEvents") == "true"
	switch {
	case s.refused[resource] != 0:
		fail(w, s.refused[resource])
	case query.Get("watch") == "":
		s.list(w, resource, query.Get("continue"))
	case streams && s.noStreams:
		fail(w, http.StatusUnprocessableEntity)
	case !streams && from < s.oldest:
		fail(w, http.StatusGone)
	default:
		s.watch(w, r, resource, streams, from)
	}
}

func fail(w http.ResponseWriter, code int) {
	reason := map[int]metav1.StatusReason{
		http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusGone: metav1.StatusReasonExpired, http.StatusUnprocessableEntity: metav1.StatusReasonInvalid,
	}[code]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason, Message: "no",
	})
}

func (s *server) of(resource string) []runtime.Object {
	var all []runtime.Object
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if resourceOf(s.objects[key]) == resource {
			all = append(all, s.objects[key])
		}
	}
	return all
}

// list answers with all objects of a resource; if in pages, with one and the number of the next.
func (s *server) list(w http.ResponseWriter, resource, from string) {
	head, all := metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}, s.of(resource)
	if i, _ := strconv.Atoi(from); s.pages && i < len(all) {
		if i+1 < len(all) {
			head.Continue = strconv.Itoa(i + 1)
		}
		all = all[i : i+1]
	}
	if s.protobuf {
		s.listInProtobuf(w, resource, head, all)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": typeOf(resource).APIVersion, "kind": typeOf(resource).Kind + "List", "metadata": head, "items": all,
	})
}

func (s *server) listInProtobuf(w http.ResponseWriter, resource string, head metav1.ListMeta, all []runtime.Object) {
	list := map[string]runtime.Object{
		"services": &corev1.ServiceList{ListMeta: head}, "nodes": &corev1.NodeList{ListMeta: head},
		"endpointslices": &discoveryv1.EndpointSliceList{ListMeta: head}, "servicecidrs": &networkingv1.ServiceCIDRList{ListMeta: head},
	}[resource]
	if err := meta.SetList(list, all); err != nil {
		s.t.Error(err)
	}
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(known); err != nil {
			s.t.Error(err)
		}
	}
	list.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(typeOf(resource).APIVersion, typeOf(resource).Kind+"List"))
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	if err := protobuf.NewSerializer(known, known).Encode(list, w); err != nil {
		s.t.Error(err)
	}
}

// watch streams events as they come. It is called under the lock, and so is what it writes: a test that holds the lock
// sees a still world.
func (s *server) watch(w http.ResponseWriter, r *http.Request, resource string, streams bool, from int) {
	epoch := s.epoch
	s.watches[resource]++
	defer func() { s.watches[resource]-- }()
	w.Header().Set("Content-Type", "application/json")
	send := func(kind string, object any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": object})
		w.(http.Flusher).Flush()
	}
	w.(http.Flusher).Flush()
	if streams {
		for _, o := range s.of(resource) {
			send("ADDED", o)
		}
		from = s.version
		send("BOOKMARK", bookmark(resource, from))
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-r.Context().Done():
			s.locked(func() {})
		case <-stop:
		}
	}()
	for r.Context().Err() == nil && epoch == s.epoch {
		for _, e := range s.events {
			if e.version > from && e.resource == resource {
				from = e.version
				send(e.kind, e.object)
			}
		}
		if s.garbled[resource] {
			delete(s.garbled, resource)
			_, _ = w.Write([]byte("}"))
			return
		}
		s.changed.Wait()
	}
	if epoch != s.epoch {
		panic(http.ErrAbortHandler)
	}
}

func bookmark(resource string, version int) map[string]any {
	return map[string]any{"apiVersion": typeOf(resource).APIVersion, "kind": typeOf(resource).Kind, "metadata": map[string]any{
		"resourceVersion": strconv.Itoa(version), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}}
}
