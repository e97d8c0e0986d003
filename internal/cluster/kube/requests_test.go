// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// listed is how a list of Services is read.
func listed() *list {
	f := feed{kind: kinds(&Client{}, "node-1")[2]}
	return &list{fresh: f.kind.object.DeepCopyObject, item: f.item}
}

func shops() corev1.ServiceList {
	left := int64(7)
	return corev1.ServiceList{
		ListMeta: metav1.ListMeta{ResourceVersion: "12", Continue: "on", RemainingItemCount: &left},
		Items:    []corev1.Service{*service("web", "10.96.0.1"), {}, *service("api", "10.96.0.2")},
	}
}

// wantSame wants what was read to be what client-go's own list has.
func wantSame(t *testing.T, got *list, want corev1.ServiceList) {
	t.Helper()
	if d := cmp.Diff(want.ListMeta, got.ListMeta); d != "" || len(got.Items) != len(want.Items) {
		t.Errorf("%d of %d Services (-want +got):\n%s", len(got.Items), len(want.Items), d)
		return
	}
	for i := range want.Items {
		if one := got.Items[i].(item); one.kept != cluster.OfService(&want.Items[i]) || one.key != one.kept.(cluster.Service).Key() {
			t.Errorf("object %d is %v, want %v", i, one.key, want.Items[i])
		}
	}
}

func TestAListIsReadInEitherEncoding(t *testing.T) {
	want := shops()
	inProtobuf, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	inJSON, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	l := listed()
	for range 2 { // the second time over the first
		l.Reset()
		if err := l.Unmarshal(inProtobuf); err != nil {
			t.Fatal(err)
		}
		wantSame(t, l, want)
	}
	l = listed()
	if err := json.Unmarshal(inJSON, l); err != nil {
		t.Fatal(err)
	}
	wantSame(t, l, want)
}

func TestWhatIsNoListIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ bytes, want string }{
		"no tag":         {"\x80", "no list"},
		"a number":       {"\x08\x01", "no list"},
		"field 0":        {"\x02\x00", "no list"},
		"no length":      {"\x12", "no list"},
		"too short":      {"\x12\x02\x0a", "no list"},
		"no object":      {"\x12\x00\x12\x01\xff", "object 2 of a list"},
		"a long length":  {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "no list"},
		"an end too far": {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "no list"},
	} {
		if err := listed().Unmarshal([]byte(c.bytes)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := listed().Unmarshal([]byte("\x1a\x01x")); err != nil {
		t.Errorf("a field of a later Kubernetes: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"items": [{}, {"spec": 1}]}`), listed()); err == nil || !strings.Contains(err.Error(), "object 2 of a list") {
		t.Errorf("no object in JSON: %v", err)
	}
}

// FuzzList reads what client-go's own list of Services would make of it.
func FuzzList(f *testing.F) {
	all := shops()
	b, err := all.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := listed()
		if l.Unmarshal(b) != nil {
			return
		}
		var want corev1.ServiceList
		if err := want.Unmarshal(b); err != nil {
			t.Fatalf("it was read, but client-go refuses it: %v", err)
		}
		wantSame(t, l, want)
	})
}

// As a real API server answers: in protobuf, and in pages if it may.
func TestListsComeInProtobufAndInPages(t *testing.T) {
	s := newServer(t)
	s.noStreams, s.protobuf, s.pages = true, true, true
	s.put(nodeObject("192.0.2.1"), serviceCIDR("10.96.0.0/16"))
	for i := range 5 {
		name, n := fmt.Sprint("web-", i), i+1
		s.put(service(name, fmt.Sprint("10.96.0.", n)), slice(name+"-a", name, fmt.Sprint("10.244.1.", n)))
	}
	f := follow(t, s, nil)
	for i := range 5 {
		f.want(t, fmt.Sprint("web-", i), fmt.Sprintf("10.96.0.%d web-%d-a=10.244.1.%[1]d", i+1, i))
	}
	if n := s.requests("services", func(q url.Values) bool { return q.Get("continue") != "" }); n != 4 {
		t.Errorf("%d pages were asked for after the first, want 4", n)
	}
	s.put(service("web-1", "10.96.0.9"))
	s.remove(service("web-2", ""))
	f.want(t, "web-1", "10.96.0.9 web-1-a=10.244.1.2")
	f.want(t, "web-2", "none")
}
