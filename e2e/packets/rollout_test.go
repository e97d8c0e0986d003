// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// perStep is how many requests are made before, and after, each step of a rollout.
const perStep = 80

// request is one question over a new connection.
type request struct {
	began, ended time.Time
	client       string
	reply        world.Reply
	err          error
}

// load is clients that ask again and again.
type load struct {
	stop    chan struct{}
	clients sync.WaitGroup

	mu   sync.Mutex
	done []request
}

// startLoad makes every client ask, in each family, until the test ends it.
func (s *stage) startLoad(t *testing.T, svc rig.Service, clients []cell) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for _, c := range clients {
		for _, f := range families() {
			to, host := c.where.at(s, svc, f, state.TCP), s.World.Host(c.client)
			name := fmt.Sprintf("%s at %v over %v", c.client, c.where, f)
			l.clients.Go(func() {
				l.run(name, func() (world.Reply, error) { return host.Ask(context.Background(), state.TCP, to) })
			})
		}
	}
	t.Cleanup(l.clients.Wait)
	t.Cleanup(l.end)
	return l
}

func (l *load) run(name string, ask func() (world.Reply, error)) {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		r := request{began: time.Now(), client: name}
		reply, err := ask()
		r.ended, r.reply, r.err = time.Now(), reply, err
		l.mu.Lock()
		l.done = append(l.done, r)
		l.mu.Unlock()
	}
}

// end may be called more than once.
func (l *load) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
}

func (l *load) requests() []request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.done)
}

// more waits for so many more requests.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	before := len(l.requests())
	rig.Until(t, rig.Patience, func() error {
		if got := len(l.requests()) - before; got < n {
			return fmt.Errorf("%d more requests, want %d", got, n)
		}
		return nil
	})
}

// period is a time in which the kernel had certain endpoints and no others.
type period struct {
	from, to  time.Time
	endpoints []string
}

func (p period) holds(r request) bool { return r.began.After(p.from) && r.ended.Before(p.to) }

func TestARolloutLosesNoRequest(t *testing.T) {
	s := newStage(t, podsByAddress)
	at := frontends()
	svc := service(1, "web", rig.Pods("pod-a", "pod-b")...)
	s.offer(t, svc)
	l := s.startLoad(t, svc, []cell{
		{client: "pod-client", where: at.clusterIP},
		{client: "pod-a", where: at.clusterIP},
		{client: "node-1", where: at.clusterIP},
		{client: "pod-d", where: at.nodePort},
		{client: "client", where: at.nodePort},
		{client: "client", where: at.clusterIP},
	})
	var periods []period
	for _, endpoints := range [][]string{
		{"pod-a", "pod-b", "pod-c"}, {"pod-b", "pod-c"}, {"pod-b", "pod-c", "pod-d"}, {"pod-c", "pod-d"},
		{"pod-a"}, {"pod-b"}, {"pod-a", "pod-b", "pod-c", "pod-d"},
	} {
		svc.Endpoints = rig.Pods(endpoints...)
		s.write(t, svc)
		s.awaitWeights(t, svc, endpoints...)
		p := period{from: time.Now(), endpoints: endpoints}
		l.more(t, perStep)
		p.to = time.Now()
		periods = append(periods, p)
	}
	l.end()
	l.clients.Wait()
	judge(t, l.requests(), periods)
}

// judge checks that all requests were answered, and by the right servers.
func judge(t *testing.T, all []request, periods []period) {
	t.Helper()
	const least = 500
	if len(all) < least {
		t.Errorf("%d requests were made, want %d", len(all), least)
	}
	for _, r := range all {
		if r.err != nil {
			t.Errorf("%s: %v", r.client, r.err)
		}
	}
	for _, p := range periods {
		answers := map[string]int{}
		for _, r := range all {
			if r.err == nil && p.holds(r) {
				answers[r.reply.Server]++
			}
		}
		t.Logf("endpoints %v: answers %v", p.endpoints, answers)
		for server := range answers {
			if !slices.Contains(p.endpoints, server) {
				t.Errorf("endpoints are %v, and %s answered %d new connections", p.endpoints, server, answers[server])
			}
		}
		for _, e := range p.endpoints {
			if answers[e] == 0 {
				t.Errorf("endpoints are %v, and %s answered no new connection: %v", p.endpoints, e, answers)
			}
		}
	}
	t.Logf("%d requests", len(all))
}
