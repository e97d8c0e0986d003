// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// sender keeps asking over one UDP socket: to the kernel all of it is one flow, whichever server answers.
type sender struct {
	name   string
	conn   *world.Conn
	within time.Duration // an answer that is not there by then is lost
	stop   chan struct{}
	done   sync.WaitGroup

	mu   sync.Mutex
	last string // who answered last; or what the last error was
	lost int
}

// interval is the time from a sender's answer to its next question: far less than any time after which the kernel
// forgets a flow. An answer that takes longer than answerTime mostly counts as lost.
const (
	interval   = 25 * time.Millisecond
	answerTime = 500 * time.Millisecond
)

// remote returns clients that can send to a Service before it exists; the node itself cannot, without a route.
func remote() []cell {
	at := frontends()
	return []cell{
		{client: "pod-client", where: at.clusterIP},
		{client: "pod-d", where: at.nodePort},
		{client: "client", where: at.nodePort},
		{client: "client", where: at.clusterIP},
	}
}

// senders opens a socket of each client, in each family.
func (s *stage) senders(t *testing.T, svc rig.Service, clients []cell) []*sender {
	t.Helper()
	return s.sendersWithin(t, svc, clients, answerTime)
}

func (s *stage) sendersWithin(t *testing.T, svc rig.Service, clients []cell, within time.Duration) []*sender {
	t.Helper()
	var list []*sender
	for _, c := range clients {
		for _, f := range families() {
			conn, err := s.World.Host(c.client).Dial(t.Context(), state.UDP, c.where.at(s, svc, f, state.UDP))
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%s at %v over %v", c.client, c.where, f)
			u := &sender{name: name, conn: conn, within: within, stop: make(chan struct{})}
			u.done.Go(func() { u.run(t.Context()) })
			t.Cleanup(u.end)
			list = append(list, u)
		}
	}
	return list
}

func (u *sender) end() {
	close(u.stop)
	u.done.Wait()
	_ = u.conn.Close() // nothing reads from it any more
}

func (u *sender) run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-u.stop:
			return
		case <-tick.C:
		}
		u.ask(ctx)
	}
}

func (u *sender) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, u.within)
	defer cancel()
	reply, err := u.conn.Ask(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case err == nil:
		u.last = reply.Server
	case isRefusal(err):
		u.last = "refusal"
	case errors.Is(err, os.ErrDeadlineExceeded):
		u.lost++
	default:
		u.last = err.Error()
	}
}

// reset forgets the last answer, so that the next one is news, and returns how many datagrams were lost since the last
// reset.
func (u *sender) reset() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	lost := u.lost
	u.last, u.lost = "nothing", 0
	return lost
}

// awaitAnswers waits until all senders get the wanted answer.
func awaitAnswers(t *testing.T, senders []*sender, want string) time.Duration {
	t.Helper()
	return rig.Until(t, soon, func() error {
		for _, u := range senders {
			u.mu.Lock()
			last, lost := u.last, u.lost
			u.mu.Unlock()
			if last != want {
				return fmt.Errorf("%s hears %s and lost %d, want %s", u.name, last, lost, want)
			}
		}
		return nil
	})
}

func TestAUDPClientThatKeepsItsSocketFollowsTheEndpoints(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := service(1, "dns", rig.Pod("pod-a"))
	s.offer(t, svc)
	senders := s.senders(t, svc, append(remote(), cell{client: "node-1", where: frontends().clusterIP}))
	awaitAnswers(t, senders, "pod-a")
	for _, next := range []struct {
		what      string
		endpoints []rig.Endpoint
		want      string
	}{
		{"another takes its place on this node", rig.Pods("pod-b"), "pod-b"},
		{"another takes its place on the other node", rig.Pods("pod-d"), "pod-d"},
		{"it gets unready when there is another", []rig.Endpoint{unready(rig.Pod("pod-d")), rig.Pod("pod-c")}, "pod-c"},
		{"it terminates when there is another", []rig.Endpoint{terminating(rig.Pod("pod-c")), rig.Pod("pod-a")}, "pod-a"},
		{"none is left", nil, "refusal"},
		{"the first one comes back", rig.Pods("pod-b"), "pod-b"},
	} {
		for _, u := range senders {
			u.reset()
		}
		svc.Endpoints = next.endpoints
		s.offer(t, svc)
		took := awaitAnswers(t, senders, next.want)
		lost := 0
		for _, u := range senders {
			lost += u.reset()
		}
		t.Logf("%s: all of %d clients hear %s %v after the kernel was settled; %d datagrams were lost",
			next.what, len(senders), next.want, took.Round(time.Millisecond), lost)
		awaitAnswers(t, senders, next.want)
	}
}

func TestAUDPClientIsAnsweredThoughItAskedBeforeTheServiceWasThere(t *testing.T) {
	s := newStage(t, podsByAddress)
	s.Settle(t)
	svc := service(1, "dns", rig.Pod("pod-a"))
	senders := s.senders(t, svc, remote())
	rig.Until(t, soon, func() error {
		for _, u := range senders {
			u.mu.Lock()
			last, lost := u.last, u.lost
			u.mu.Unlock()
			if last == "" && lost == 0 {
				return fmt.Errorf("%s has not asked", u.name)
			}
		}
		return nil
	})
	s.offer(t, svc)
	awaitAnswers(t, senders, "pod-a")
}
