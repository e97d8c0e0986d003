// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is far more than anything here takes.
const patience = 20 * time.Second

func TestAllIsToldOnceAllIsKnown(t *testing.T) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprint("streaming lists ", streams), func(t *testing.T) {
			s := newServer(t)
			s.noStreams = !streams
			s.put(service("web", "10.96.0.1"), slice("web-b", "web", "10.244.1.2"), slice("web-a", "web", "10.244.1.1"),
				service("api", "10.96.0.2"), nodeObject("192.0.2.1"), serviceCIDR("10.96.0.0/16"))
			f := follow(t, s, nil)
			eventually(t, "everything is reported", func() bool { return slices.Contains(f.all(), "listed 2") })
			want := []string{"place node-1 [10.96.0.0/16]", "service api 10.96.0.2", "service web 10.96.0.1 web-a=10.244.1.1 web-b=10.244.1.2", "listed 2"}
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
			if got := f.all(); got != nil {
				t.Errorf("it reported %q", got)
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
	eventually(t, "the ServiceCIDR is reported", func() bool { return slices.Contains(f.all(), "place node-1 [10.96.0.0/16]") })
	s.remove(serviceCIDR(""))
	s.remove(nodeObject())
	eventually(t, "both are reported to be gone", func() bool { return slices.Contains(f.all(), "place none []") })
}

func TestABurstIsToldOnce(t *testing.T) {
	s := newServer(t)
	s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"), service("old", "10.96.0.9"))
	f := follow(t, s, nil)
	eventually(t, "everything is reported", func() bool { return slices.Contains(f.all(), "listed 2") })
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
	got := f.all()[before:]
	if len(got) > 20 {
		t.Errorf("a burst was reported one by one: %q", got)
	}
	if slices.Index(got, "service old") > slices.Index(got, "service new 10.96.0.9") {
		t.Errorf("the heir of an address was reported before its former owner was gone: %q", got)
	}
}

func TestAnAPIServerThatIsAwayTakesNothingAway(t *testing.T) {
	s := newServer(t)
	s.put(nodeObject("192.0.2.1"), service("web", "10.96.0.1"), service("old", "10.96.0.2"), slice("web-a", "web", "10.244.1.1"))
	f := follow(t, s, nil)
	eventually(t, "the API server is connected", func() bool { return f.Status().Connected })
	s.put(service("old", "10.96.0.3")) // a reflector lists anew what it watched in vain
	f.want(t, "old", "10.96.0.3")
	before := f.all()
	lists := func(q url.Values) bool { return q.Get("watch") == "" || q.Get("sendInitialEvents") != "" }
	listed := s.requests("services", lists)
	s.cut(true)
	eventually(t, "the loss is noticed", func() bool { return !f.Status().Connected })
	time.Sleep(200 * time.Millisecond) // many tries
	if got := f.all(); len(got) != len(before) {
		t.Errorf("meanwhile it reported %q", got[len(before):])
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
	wantLines(t, f, "connected to", 2)
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
			for _, got := range f.all()[before:] {
				if got == "place none []" || got == "service web" || strings.HasPrefix(got, "listed") {
					t.Errorf("meanwhile it reported %q", got)
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
		wantLines(t, f, "continuing without", 1)
		s.locked(func() { delete(s.refused, "servicecidrs") })
		eventually(t, "it is reported later", func() bool { return slices.Contains(f.all(), "place node-1 [10.96.0.0/16]") })
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
	if got := f.all(); got != nil {
		t.Errorf("while the ServiceCIDRs are forbidden it reported %q", got)
	}
	s.locked(func() { delete(s.refused, "servicecidrs") })
	f.want(t, "web", "10.96.0.1")
	if all := f.all(); all[0] != "place node-1 [10.96.0.0/16]" {
		t.Errorf("first it reported %q", all[0])
	}
	wantLines(t, f, "continuing without", 0)
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
	if got := f.all(); got != nil {
		t.Errorf("before the Node has an address it reported %q", got)
	}
	s.put(nodeObject("192.0.2.1"))
	f.want(t, "web", "10.96.0.1")

	s = newServer(t)
	s.put(service("web", "10.96.0.1"))
	f = follow(t, s, func(p *pauses) { p.node = 10 * time.Millisecond })
	f.want(t, "web", "10.96.0.1")
	s.put(nodeObject("192.0.2.1"))
	eventually(t, "the Node is reported", func() bool { return slices.Contains(f.all(), "place node-1 []") })
	wantLines(t, f, "continuing without", 1)
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
