// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// sink records what is reported, and the last state of everything.
type sink struct {
	gate sync.Mutex            // a test that holds it keeps the source waiting
	each func(*corev1.Service) // nil: not wanted

	mutex    sync.Mutex
	reported []string
	services map[string]string
	place    cluster.Place
}

func (s *sink) Service(key types.NamespacedName, o *cluster.Objects) {
	text := ""
	if o != nil {
		service, all := o.Unpack()
		if s.each != nil {
			s.each(service)
		}
		text = service.Spec.ClusterIP
		for _, slice := range all {
			text += " " + slice.Name + "=" + slice.Endpoints[0].Addresses[0]
		}
	}
	s.record("service "+strings.TrimSpace(key.Name+" "+text), func() {
		s.services[key.Name] = text
		if o == nil {
			delete(s.services, key.Name)
		}
	})
}

func (s *sink) Place(p cluster.Place) {
	node := "none"
	if p.Node != nil {
		node = p.Node.Name
	}
	s.record(fmt.Sprint("place ", node, " ", p.ServiceCIDRs), func() { s.place = p })
}

func (s *sink) Listed(e cluster.Extent) { s.record(fmt.Sprint("listed ", e), func() {}) }

func (s *sink) record(what string, do func()) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.reported = append(s.reported, what)
	do()
}

// all returns everything that was reported, in order.
func (s *sink) all() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.reported)
}

// now returns the last state of a Service.
func (s *sink) now(name string) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if text, ok := s.services[name]; ok {
		return text
	}
	return "none"
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func service(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip}}
}

func slice(name, owner, ip string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: owner}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip}}},
	}
}

func nodeObject(addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func serviceCIDR(cidr string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{cidr}}}
}

// follower is a running Source, and what it reports.
type follower struct {
	*sink
	*Source
	logs *observer.ObservedLogs
	stop func()
}

// follow runs a source with short pauses until the test ends.
func follow(t *testing.T, s *server, change func(*pauses)) *follower {
	return followWith(t, s, change, &sink{services: map[string]string{}})
}

func followWith(t *testing.T, s *server, change func(*pauses), to *sink) *follower {
	core, logs := observer.New(zap.InfoLevel)
	f := &follower{sink: to, logs: logs, Source: &Source{
		Client: s.client(), Node: "node-1", Log: zap.New(core),
		pauses: pauses{again: wait.Backoff{Duration: time.Millisecond, Factor: 2, Steps: 10, Cap: 20 * time.Millisecond}, refused: time.Hour, doubt: 1, node: patience},
	}}
	if change != nil {
		change(&f.pauses)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx, f.sink); err != nil {
			t.Error(err)
		}
	})
	f.stop = func() {
		stop()
		running.Wait()
	}
	t.Cleanup(f.stop)
	return f
}

func (f *follower) want(t *testing.T, name, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %q", name, text), func() bool { return f.now(name) == text })
}

// wantLines checks how many lines of the log contain a text.
func wantLines(t *testing.T, f *follower, says string, want int) {
	t.Helper()
	n := 0
	for _, e := range f.logs.All() {
		if strings.Contains(e.Message, says) {
			n++
		}
	}
	if n != want {
		t.Errorf("%d lines say %q, want %d: %v", n, says, want, f.logs.All())
	}
}
