// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"path"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// server is an API server of a cluster of a size.
type server struct {
	size
	streams bool                            // it has streaming lists
	changes chan *discoveryv1.EndpointSlice // sent once all objects are
}

// serve starts a server that answers until the test ends.
func serve(t testing.TB, s size, streams bool) (*server, string) {
	t.Helper()
	one := &server{size: s, streams: streams, changes: make(chan *discoveryv1.EndpointSlice)}
	h := httptest.NewServer(one)
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
	})
	return one, h.URL
}

const (
	protobuf = "application/vnd.kubernetes.protobuf"
	version  = "200000" // of all that is listed
)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource, query := path.Base(r.URL.Path), r.URL.Query()
	kind, known := kinds()[resource]
	switch {
	case !known || r.Method != http.MethodGet:
		http.Error(w, "not here", http.StatusForbidden)
	case query.Get("watch") == "":
		s.list(w, resource, kind)
	case query.Get("sendInitialEvents") == "true" && !s.streams:
		http.Error(w, "no streaming lists", http.StatusUnprocessableEntity)
	default:
		s.watch(w, r, resource, kind)
	}
}

// kinds returns the kinds that clients ask for, with an empty object of each.
func kinds() map[string]runtime.TypeMeta {
	return map[string]runtime.TypeMeta{
		"services":       {APIVersion: "v1", Kind: "Service"},
		"nodes":          {APIVersion: "v1", Kind: "Node"},
		"endpointslices": {APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		"servicecidrs":   {APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
	}
}

// message is an object that can encode itself.
type message interface{ Marshal() ([]byte, error) }

// each makes the objects of a resource.
func (s *server) each(resource string, do func(message)) {
	switch resource {
	case "nodes":
		do(thisNode())
	case "servicecidrs":
		do(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/12"}}})
	case "services":
		for n := range s.services {
			do(service(n))
		}
	case "endpointslices":
		for n := range s.services {
			for part := range s.parts() {
				do(s.slice(n, part, 0))
			}
		}
	}
}

// watch streams all objects if the client asks for them, and then the changes.
func (s *server) watch(w http.ResponseWriter, r *http.Request, resource string, kind runtime.TypeMeta) {
	w.Header().Set("Content-Type", protobuf+";stream=watch")
	send := func(event string, o message) { _, _ = w.Write(frame(event, kind, o)) }
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		s.each(resource, func(o message) { send("ADDED", o) })
		send("BOOKMARK", bookmark{ResourceVersion: version, Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}})
	}
	w.(http.Flusher).Flush()
	changes := s.changes
	if resource != "endpointslices" {
		changes = nil
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case o := <-changes:
			send("MODIFIED", o)
			w.(http.Flusher).Flush()
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// frame returns an event as protobuf.
func frame(event string, kind runtime.TypeMeta, o message) []byte {
	e := metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Raw: enveloped(kind, must(o.Marshal()))}}
	b := must(e.Marshal())
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func enveloped(kind runtime.TypeMeta, b []byte) []byte {
	u := runtime.Unknown{TypeMeta: kind, Raw: b}
	return append([]byte("k8s\x00"), must(u.Marshal())...)
}

// field returns a field of a message, which is a message.
func field(number byte, b []byte) []byte {
	return append(binary.AppendUvarint([]byte{number<<3 | 2}, uint64(len(b))), b...)
}

// bookmark is an object of any kind with metadata alone: all kinds have it in the same field.
type bookmark metav1.ObjectMeta

func (b bookmark) Marshal() ([]byte, error) {
	m := metav1.ObjectMeta(b)
	return field(1, must(m.Marshal())), nil
}

// list sends all objects in one answer.
func (s *server) list(w http.ResponseWriter, resource string, kind runtime.TypeMeta) {
	w.Header().Set("Content-Type", protobuf)
	meta := metav1.ListMeta{ResourceVersion: version}
	b := field(1, must(meta.Marshal()))
	s.each(resource, func(o message) { b = append(b, field(2, must(o.Marshal()))...) })
	kind.Kind += "List"
	_, _ = w.Write(enveloped(kind, b))
}
