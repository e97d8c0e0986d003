// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

const (
	// away is how long the API server is down, besides the time that it takes to start.
	away = time.Minute
	// leisurely is how often clients ask while there is time.
	leisurely = 500 * time.Millisecond
)

// restore brings the API server back to its address if a test left it elsewhere or dead.
func (s *stage) restore(t *testing.T) {
	t.Helper()
	if s.server.Alive() == nil && s.server.Address.Addr() == firstServer() {
		return
	}
	s.server.Kill()
	if err := s.serve(context.Background(), firstServer()); err != nil {
		t.Error(err)
	}
}

// wait lets time pass, in which kube-ipvs must not end.
func wait(t *testing.T, d time.Duration, daemons []*rig.Daemon) {
	t.Helper()
	for end := time.After(d); ; {
		for _, d := range daemons {
			if err := d.Alive(); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-end:
			return
		case <-time.After(time.Second):
		}
	}
}

func TestNoRequestIsLostWhileTheAPIServerIsAwayComesBackAndMoves(t *testing.T) {
	s := newStage(t)
	t.Cleanup(func() { s.restore(t) })
	web, other := loadBalancer(1, clusterIP(1, "web", pods("pod-a", "pod-d")...)), clusterIP(2, "other", pods("pod-b")...)
	s.put(t, web, other)
	daemons := s.startAll(t)
	want := s.settle(t)
	awaitAnswers(t, flowsTo(web)...)
	l := startLoad(t, leisurely, flowsTo(web)...)

	s.server.Kill()
	gone := time.Now()
	wait(t, away, daemons)
	s.mustHold(t, want)
	if err := s.plane.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.serve(t.Context(), secondServer(), control.NoStreamingLists); err != nil {
		t.Fatal(err)
	}
	t.Logf("the API server was away for %v, and is at another address now", time.Since(gone).Round(time.Second))
	web.Endpoints = append(web.Endpoints, endpoint("pod-b"))
	s.put(t, web, clusterIP(3, "more", pods("pod-c")...))
	s.remove(t, other)
	back := time.Now()
	s.settle(t)
	t.Logf("the nodes knew %v after it was ready", time.Since(back).Round(time.Second))
	l.more(t, 5)

	if err := s.server.Stop(); err != nil {
		t.Error(err)
	}
	if err := s.plane.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.serve(t.Context(), firstServer()); err != nil {
		t.Fatal(err)
	}
	web.Endpoints = append(web.Endpoints, endpoint("pod-e"))
	s.put(t, web, clusterIP(3, "more", pods("pod-b")...))
	s.settle(t)
	l.more(t, 5)
	l.end(t)
}
