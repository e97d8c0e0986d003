// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
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

// patience is far more than anything here takes.
const patience = 20 * time.Second

// sink writes down what it is told, and holds what it was told last.
type sink struct {
	gate sync.Mutex            // a test that holds it keeps the source waiting
	each func(*corev1.Service) // nil: not wanted

	mutex    sync.Mutex
	told     []string
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
	s.tell("service "+strings.TrimSpace(key.Name+" "+text), func() {
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
	s.tell(fmt.Sprint("place ", node, " ", p.ServiceCIDRs), func() { s.place = p })
}

func (s *sink) Listed(e cluster.Extent) { s.tell(fmt.Sprint("told ", e), func() {}) }

func (s *sink) tell(what string, do func()) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.told = append(s.told, what)
	do()
}

// all is all that was told, in order.
func (s *sink) all() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.told)
}

// now is what a Service was last.
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

// follower is a source at work, and what it tells.
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

func TestAllIsToldOnceAllIsKnown(t *testing.T) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprint("streaming lists ", streams), func(t *testing.T) {
			s := newServer(t)
			s.noStreams = !streams
			s.put(service("web", "10.96.0.1"), slice("web-b", "web", "10.244.1.2"), slice("web-a", "web", "10.244.1.1"),
				service("api", "10.96.0.2"), nodeObject("192.0.2.1"), serviceCIDR("10.96.0.0/16"))
			f := follow(t, s, nil)
			eventually(t, "all is told", func() bool { return slices.Contains(f.all(), "told 2") })
			want := []string{"place node-1 [10.96.0.0/16]", "service api 10.96.0.2", "service web 10.96.0.1 web-a=10.244.1.1 web-b=10.244.1.2", "told 2"}
			if got := f.all(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if lists := s.requests("services", func(q url.Values) bool { return q.Get("watch") == "" }); streams && lists > 0 {
				t.Errorf("there were %d lists beside the streaming one", lists)
			}
		})
	}
}

func TestNothingIsToldBeforeAllIsKnown(t *testing.T) {
	for _, missing := range []string{"services", "endpointslices", "nodes", "servicecidrs"} {
		t.Run(missing, func(t *testing.T) {
			s := newServer(t)
			s.refused[missing] = http.StatusInternalServerError
			s.put(service("web", "10.96.0.1"), nodeObject("192.0.2.1"))
			f := follow(t, s, nil)
			eventually(t, "all others are watched, and that one was asked for often", func() bool {
				open := 0
				s.locked(func() { open = len(s.watches) })
				return open == kindCount-1 && s.requests(missing, func(url.Values) bool { return true }) > 6
			})
			if told := f.all(); told != nil {
				t.Errorf("was told %q", told)
			}
			if f.Status().Connected {
				t.Error("the status is connected")
			}
			s.locked(func() { delete(s.refused, missing) })
			f.want(t, "web", "10.96.0.1")
			eventually(t, "the status is connected", func() bool { return f.Status().Connected })
		})
	}
}

func TestChangesAreTold(t *testing.T) {
	s := newServer(t)
	s.put(service("web", "10.96.0.1"), nodeObject("192.0.2.1"))
	f := follow(t, s, nil)
	f.want(t, "web", "10.96.0.1")
	s.put(slice("web-a", "web", "10.244.1.1"))
	f.want(t, "web", "10.96.0.1 web-a=10.244.1.1")
	s.put(slice("web-a", "web", "10.244.1.2"), service("api", "10.96.0.2"))
	f.want(t, "web", "10.96.0.1 web-a=10.244.1.2")
	f.want(t, "api", "10.96.0.2")
	s.remove(slice("web-a", "web", ""))
	f.want(t, "web", "10.96.0.1")
	s.remove(service("web", ""))
	f.want(t, "web", "none")
	s.put(serviceCIDR("10.96.0.0/16"))
	eventually(t, "the ServiceCIDR is told", func() bool { return slices.Contains(f.all(), "place node-1 [10.96.0.0/16]") })
	s.remove(serviceCIDR(""))
	s.remove(nodeObject())
	eventually(t, "both are told to be gone", func() bool { return slices.Contains(f.all(), "place none []") })
}

func TestABurstIsToldOnce(t *testing.T) {
	s := newServer(t)
	s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"), service("old", "10.96.0.9"))
	f := follow(t, s, nil)
	eventually(t, "all is told", func() bool { return slices.Contains(f.all(), "told 2") })
	before := len(f.all())
	f.gate.Lock()
	s.put(service("first", "10.96.0.3"))
	for i := range 100 {
		s.put(slice("web-a", "web", fmt.Sprintf("10.244.1.%d", i)))
	}
	s.remove(service("old", ""))
	s.put(service("new", "10.96.0.9"))
	eventually(t, "all came", func() bool { return f.Status().LastEvent.Before(time.Now().Add(-100 * time.Millisecond)) })
	f.gate.Unlock()
	f.want(t, "web", "10.96.0.1 web-a=10.244.1.99")
	f.want(t, "new", "10.96.0.9")
	told := f.all()[before:]
	if len(told) > 20 {
		t.Errorf("a burst was told one by one: %q", told)
	}
	if slices.Index(told, "service old") > slices.Index(told, "service new 10.96.0.9") {
		t.Errorf("the heir of an address was told before its former owner was gone: %q", told)
	}
}

func TestAnAPIServerThatIsAwayTakesNothingAway(t *testing.T) {
	s := newServer(t)
	s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"), service("old", "10.96.0.2"), slice("web-a", "web", "10.244.1.1"))
	f := follow(t, s, nil)
	eventually(t, "the API server is followed", func() bool { return f.Status().Connected })
	s.put(service("old", "10.96.0.3")) // a reflector lists anew what it watched in vain
	f.want(t, "old", "10.96.0.3")
	before := f.all()
	lists := func(q url.Values) bool { return q.Get("watch") == "" || q.Get("sendInitialEvents") != "" }
	listed := s.requests("services", lists)
	s.cut(true)
	eventually(t, "the loss is noticed", func() bool { return !f.Status().Connected })
	time.Sleep(200 * time.Millisecond) // many tries
	if told := f.all(); len(told) != len(before) {
		t.Errorf("meanwhile it told %q", told[len(before):])
	}
	s.remove(service("old", ""))
	s.put(slice("web-a", "web", "10.244.1.2"))
	s.cut(false)
	f.want(t, "web", "10.96.0.1 web-a=10.244.1.2")
	f.want(t, "old", "none")
	eventually(t, "the status is connected", func() bool { return f.Status().Connected })
	if now := s.requests("services", lists); now != listed {
		t.Errorf("all Services were listed anew %d times; the watch could have gone on", now-listed)
	}
	wantLines(t, f, "does not answer", 1)
	wantLines(t, f, "is followed", 2)
}

func TestAWatchThatBreaksGoesOnWhereItWas(t *testing.T) {
	s := newServer(t)
	s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"))
	f := follow(t, s, nil)
	f.want(t, "web", "10.96.0.1")
	s.put(service("web", "10.96.0.2"))
	f.want(t, "web", "10.96.0.2")
	lists := func(q url.Values) bool { return q.Get("watch") == "" || q.Get("sendInitialEvents") != "" }
	watches := func(q url.Values) bool { return !lists(q) }
	listed, watched := s.requests("services", lists), s.requests("services", watches)
	s.locked(func() { s.garbled["services"] = true })
	eventually(t, "it is watched again", func() bool { return s.requests("services", watches) > watched })
	s.put(service("web", "10.96.0.3"))
	f.want(t, "web", "10.96.0.3")
	if now := s.requests("services", lists); now != listed {
		t.Errorf("all Services were listed anew %d times", now-listed)
	}
	wantLines(t, f, "does not answer", 0)
}

// wantLines wants so many lines of the log that say that.
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

func TestAVersionThatExpiredMeansANewList(t *testing.T) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprint("streaming lists ", streams), func(t *testing.T) {
			s := newServer(t)
			s.noStreams = !streams
			s.put(nodeObject("192.0.2.1"), serviceCIDR("10.96.0.0/16"), service("web", "10.96.0.1"), service("old", "10.96.0.2"),
				slice("web-a", "web", "10.244.1.1"), slice("web-b", "web", "10.244.1.2"))
			f := follow(t, s, nil)
			f.want(t, "web", "10.96.0.1 web-a=10.244.1.1 web-b=10.244.1.2")
			f.want(t, "old", "10.96.0.2")
			eventually(t, "the status is connected", func() bool { return f.Status().Connected })
			before := len(f.all())
			s.cut(true)
			s.remove(service("old", ""), slice("web-b", "", ""), serviceCIDR(""))
			s.put(service("new", "10.96.0.2"))
			s.compact()
			s.cut(false)
			f.want(t, "new", "10.96.0.2")
			f.want(t, "old", "none")
			f.want(t, "web", "10.96.0.1 web-a=10.244.1.1")
			eventually(t, "the ServiceCIDR is gone", func() bool { return slices.Contains(f.all(), "place node-1 []") })
			for _, told := range f.all()[before:] {
				if told == "place none []" || told == "service web" || strings.HasPrefix(told, "told") {
					t.Errorf("meanwhile it told %q", told)
				}
			}
		})
	}
}

func TestAnAPIServerWithoutServiceCIDRsIsFollowed(t *testing.T) {
	for _, code := range []int{http.StatusNotFound, http.StatusForbidden} {
		s := newServer(t)
		s.refused["servicecidrs"] = code
		s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"), serviceCIDR("10.96.0.0/16"))
		f := follow(t, s, func(p *pauses) { p.refused = 10 * time.Millisecond })
		f.want(t, "web", "10.96.0.1")
		eventually(t, "the status is connected", func() bool { return f.Status().Connected })
		any := func(url.Values) bool { return true }
		tries := s.requests("servicecidrs", any)
		eventually(t, "it is tried again", func() bool { return s.requests("servicecidrs", any) > tries+4 })
		wantLines(t, f, "going on without", 1)
		s.locked(func() { delete(s.refused, "servicecidrs") })
		eventually(t, "it is told after all", func() bool { return slices.Contains(f.all(), "place node-1 [10.96.0.0/16]") })
	}
}

// An API server forbids everything while it does not know the roles yet.
func TestAnAPIServerThatHasJustStartedIsNotTakenAtItsWord(t *testing.T) {
	s := newServer(t)
	s.refused["servicecidrs"] = http.StatusForbidden
	s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"), serviceCIDR("10.96.0.0/16"))
	f := follow(t, s, func(p *pauses) { p.doubt = time.Hour })
	any := func(url.Values) bool { return true }
	eventually(t, "it is tried again", func() bool { return s.requests("servicecidrs", any) > 5 })
	if told := f.all(); told != nil {
		t.Errorf("while the ServiceCIDRs are forbidden it told %q", told)
	}
	s.locked(func() { delete(s.refused, "servicecidrs") })
	f.want(t, "web", "10.96.0.1")
	if all := f.all(); all[0] != "place node-1 [10.96.0.0/16]" {
		t.Errorf("first it told %q", all[0])
	}
	wantLines(t, f, "going on without", 0)
}

func TestTheNodeObjectIsWaitedForButNotForever(t *testing.T) {
	s := newServer(t)
	s.put(service("web", "10.96.0.1"), nodeObject())
	f := follow(t, s, nil)
	eventually(t, "all is watched", func() bool {
		open := 0
		s.locked(func() { open = len(s.watches) })
		return open == kindCount
	})
	if told := f.all(); told != nil {
		t.Errorf("before the Node has an address it told %q", told)
	}
	s.put(nodeObject("192.0.2.1"))
	f.want(t, "web", "10.96.0.1")

	s = newServer(t)
	s.put(service("web", "10.96.0.1"))
	f = follow(t, s, func(p *pauses) { p.node = 10 * time.Millisecond })
	f.want(t, "web", "10.96.0.1")
	s.put(nodeObject("192.0.2.1"))
	eventually(t, "the Node is told", func() bool { return slices.Contains(f.all(), "place node-1 []") })
	wantLines(t, f, "going on without", 1)
}

func TestOnlyWhatIsWantedIsAskedFor(t *testing.T) {
	s := newServer(t)
	s.put(nodeObject("192.0.2.1"))
	s.noStreams = true
	f := follow(t, s, nil)
	eventually(t, "the status is connected", func() bool { return f.Status().Connected })
	for resource, want := range map[string][2]string{
		"services":       {"!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"},
		"endpointslices": {"!service.kubernetes.io/headless", ""},
		"nodes":          {"", "metadata.name=node-1"},
		"servicecidrs":   {"", ""},
	} {
		all := s.requests(resource, func(url.Values) bool { return true })
		right := s.requests(resource, func(q url.Values) bool { return q.Get("labelSelector") == want[0] && q.Get("fieldSelector") == want[1] })
		if all < 3 || right != all {
			t.Errorf("%s: %d of %d requests have the selectors %q", resource, right, all, want)
		}
	}
}

func TestASourceEndsAtOnceWhenAsked(t *testing.T) {
	s := newServer(t)
	s.cut(true)
	s.http.Close() // connections are refused
	f := follow(t, s, func(p *pauses) { p.again.Duration, p.again.Cap = time.Hour, time.Hour })
	eventually(t, "it tried", func() bool { return f.logs.Len() > 0 })
	began := time.Now()
	f.stop()
	if took := time.Since(began); took > patience {
		t.Errorf("it took %v", took)
	}
}
