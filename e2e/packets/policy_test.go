// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// local returns a Service with traffic policy Local for clients from outside.
func local(n uint8, name string, pods ...string) rig.Service {
	svc := exposed(n, service(n, name, rig.Pods(pods...)...))
	svc.ExternalLocal = true
	return svc
}

// outsiders and insiders are clients at the frontends where traffic policy Local makes them differ.
func outsiders() []cell {
	at := frontends()
	return []cell{
		{client: "client", where: at.loadBalancer},
		{client: "client", where: at.externalIP},
		{client: "client", where: at.nodePort},
	}
}

func insiders() []cell {
	at := frontends()
	return []cell{
		{client: "pod-client", where: at.loadBalancer},
		{client: "pod-client", where: at.nodePort},
		{client: "pod-a", where: at.externalIP},
		{client: "node-1", where: at.loadBalancer},
	}
}

func TestAChangeOfTheTrafficPolicyLosesNoRequest(t *testing.T) {
	const toggles = 24
	s := newStage(t, podsByAddress)
	svc := local(1, "web", "pod-a", "pod-d")
	s.offer(t, svc)
	l := s.startLoad(t, svc, slices.Concat(outsiders(), insiders()))
	type span struct {
		period
		local bool
	}
	var spans []span
	for i := range toggles {
		now := span{local: i%2 == 0}
		svc.ExternalLocal = now.local
		s.write(t, svc)
		s.SettleButDrains(t)
		now.from = time.Now()
		l.more(t, perStep/4)
		now.to = time.Now()
		spans = append(spans, now)
	}
	l.end()
	l.clients.Wait()
	for _, r := range l.requests() {
		if r.err != nil {
			t.Errorf("%s: %v", r.client, r.err)
			continue
		}
		f := state.FamilyOf(r.reply.Client.Addr())
		fromOutside := slices.ContainsFunc(outsiders(), func(c cell) bool { return r.client == fmt.Sprintf("%s at %v over %v", c.client, c.where, f) })
		for _, p := range spans {
			kept := r.reply.Client.Addr() == s.World.Host("client").Addr(f)
			if p.holds(r) && fromOutside && (kept != p.local || p.local && r.reply.Server == "pod-d") {
				t.Errorf("%s, policy Local: %v: answered by %v", r.client, p.local, r.reply)
			}
		}
	}
	t.Logf("%d requests", len(l.requests()))
}

func TestAClientSticksToItsEndpointWithPolicyLocal(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := local(1, "sticky", "pod-a", "pod-b", "pod-d")
	svc.Sticky = true
	s.offer(t, svc)
	at := frontends()
	taken := map[string]bool{}
	for _, client := range []string{"client", "pod-client", "pod-a", "pod-b", "pod-c", "node-1"} {
		for _, f := range families() {
			for _, p := range protocols() {
				got := s.answerers(t, client, p, at.loadBalancer.at(s, svc, f, p), stickyQuestions)
				if len(got) != 1 || client == "client" && got[0] == "pod-d" {
					t.Errorf("%s over %v/%v was answered by %v, want one endpoint, of this node if it is outside", client, f, p, got)
				}
				if client != "client" {
					taken[got[0]] = true
				}
			}
		}
	}
	if len(taken) < 2 {
		t.Errorf("all clients in the cluster were answered by %v, want them spread", taken)
	}
}

func TestADeletedServiceKeepsItsOpenConnections(t *testing.T) {
	s := newStage(t, podsByAddress)
	plain, near := exposed(1, service(1, "cluster", rig.Pods("pod-a", "pod-b")...)), local(2, "local", "pod-a", "pod-b")
	s.offer(t, plain, near)
	clients := slices.Concat(allKinds("pod-a"), insiders(), outsiders())
	lines := append(s.hold(t, plain, "pod-a", clients), s.hold(t, near, "pod-a", clients)...)
	for _, svc := range []rig.Service{plain, near} {
		s.Delete(t, svc.Name)
		s.awaitWeights(t, svc)
	}
	var refusals sync.WaitGroup
	for _, l := range lines {
		if reply, err := l.conn.Ask(t.Context()); err != nil || reply.Server != "pod-a" {
			t.Errorf("%s: the connection to pod-a was answered by %q: %v", l.name, reply.Server, err)
		}
		refusals.Go(func() {
			if reply, err := l.client.Ask(t.Context(), state.TCP, l.to); !isRefusal(err) {
				t.Errorf("%s: a new connection was answered by %q: %v, want a refusal", l.name, reply.Server, err)
			}
		})
	}
	refusals.Wait()
}

func TestAnOpenConnectionOfAnInsiderOutlivesItsEndpoint(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := local(1, "web", "pod-a", "pod-b", "pod-d")
	s.offer(t, svc)
	lines := s.hold(t, svc, "pod-d", insiders())
	svc.Endpoints = rig.Pods("pod-a", "pod-b")
	s.write(t, svc)
	s.SettleButDrains(t)
	for _, l := range lines {
		l.goesOn(t, len(svc.Endpoints))
	}
}

func TestASchedulerIsChangedInPlace(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := local(1, "web", "pod-a", "pod-b", "pod-d")
	s.offer(t, svc)
	lines := s.hold(t, svc, "pod-a", slices.Concat(allKinds("pod-a"), insiders(), outsiders()))
	for _, next := range []struct {
		scheduler string
		one       bool // endpoint for a client
	}{{"sh", true}, {"wrr", false}, {"mh", false}, {"rr", false}} {
		svc.Annotations = map[string]string{"kube-ipvs.io/scheduler": next.scheduler}
		s.offer(t, svc)
		for _, l := range lines {
			if reply, err := l.conn.Ask(t.Context()); err != nil || reply.Server != "pod-a" {
				t.Errorf("%s, scheduler %s: the connection to pod-a was answered by %q: %v", l.name, next.scheduler, reply.Server, err)
			}
			if got := s.answerers(t, l.client.Name, state.TCP, l.to, stickyQuestions); (len(got) == 1) != next.one {
				t.Errorf("%s, scheduler %s: new connections were answered by %v", l.name, next.scheduler, got)
			}
		}
	}
}

func TestAUDPClientWithPolicyLocalFollowsTheEndpoints(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := local(1, "dns", "pod-b")
	s.offer(t, svc)
	inside, outside := s.senders(t, svc, insiders()), s.senders(t, svc, outsiders())
	all := slices.Concat(inside, outside)
	awaitAnswers(t, all, "pod-b")
	for _, next := range []struct {
		pods            []string
		inside, outside string
	}{
		{names("pod-c"), "pod-c", "pod-c"},
		{names("pod-d"), "pod-d", "nothing"},
		{nil, "refusal", "refusal"},
		{names("pod-b"), "pod-b", "pod-b"},
	} {
		svc.Endpoints = rig.Pods(next.pods...)
		s.offer(t, svc)
		for _, u := range all {
			u.reset()
		}
		awaitAnswers(t, inside, next.inside)
		awaitAnswers(t, outside, next.outside)
	}
}

func TestMasqueradeTakesNoNodePort(t *testing.T) {
	s := newStage(t, podsByAddress)
	at := frontends()
	svc := exposed(1, service(1, "web", rig.Pods("pod-a", "pod-d")...))
	s.offer(t, svc)
	for _, c := range []cell{
		{client: "client", where: at.nodePort},
		{client: "pod-client", where: at.loadBalancer},
		{client: "node-1", where: at.clusterIP},
		{client: "pod-a", where: at.clusterIP},
	} {
		// The kernel keeps the client's own port if it can.
		s.World.Host(c.client).AskFrom(30000)
		for _, f := range families() {
			for _, p := range protocols() {
				s.takesNoNodePort(t, c, p, c.where.at(s, svc, f, p))
			}
		}
	}
	s.pings(t, svc, syscall.ECONNREFUSED)
}

func (s *stage) takesNoNodePort(t *testing.T, c cell, p state.Protocol, to netip.AddrPort) {
	t.Helper()
	const questions = 40
	for range questions {
		reply, err := s.World.Host(c.client).Ask(t.Context(), p, to)
		if err != nil {
			t.Fatal(err)
		}
		port := reply.Client.Port()
		if s.seen(c.client, reply) == masked && 30000 <= port && port <= 32767 {
			t.Errorf("%s at %v of %v/%v is seen as %v, a node port", c.client, c.where, to, p, reply.Client)
			return
		}
	}
}
