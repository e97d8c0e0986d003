// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// unanswered checks that no server answers any more where a Service was. Which error the client gets depends on routes.
func (s *stage) unanswered(t *testing.T, svc rig.Service, where frontend, clients ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), silence)
	defer cancel()
	var all sync.WaitGroup
	for _, client := range clients {
		for _, f := range families() {
			for _, p := range protocols() {
				to := where.at(s, svc, f, p)
				all.Go(func() {
					if reply, err := s.World.Host(client).Ask(ctx, p, to); err == nil {
						t.Errorf("%s at %v/%v: %s answered, want no server", client, to, p, reply.Server)
					}
				})
			}
		}
	}
	all.Wait()
}

// answered checks that the endpoints answer in turn.
func (s *stage) answered(t *testing.T, svc rig.Service, where frontend, client string, want fate) {
	t.Helper()
	for _, found := range s.explore(t.Context(), cell{client: client, where: where, want: want}, svc) {
		found.check(t, want)
	}
}

// refuses checks that clients are refused.
func (s *stage) refuses(t *testing.T, svc rig.Service, where frontend, clients ...string) {
	t.Helper()
	list := cells(clients, []frontend{where}, []string{svc.Name}, refused())
	for _, all := range s.exploreAll(t.Context(), list, map[string]rig.Service{svc.Name: svc}) {
		for _, found := range all {
			found.check(t, refused())
		}
	}
}

// drainsShort makes rows that stay for old connections go soon.
func drainsShort(c *config.Config) { c.DrainTimeout = time.Second }

func TestADeletedServiceIsGone(t *testing.T) {
	s := newStage(t, podsByAddress, drainsShort)
	at := frontends()
	svc, other := service(1, "web", rig.Pods("pod-a", "pod-b")...), service(2, "other", rig.Pods("pod-b")...)
	s.offer(t, svc, other)
	s.answered(t, svc, at.clusterIP, "pod-client", keeping("pod-a", "pod-b"))
	s.answered(t, svc, at.nodePort, "client", masking("pod-a", "pod-b"))
	s.Delete(t, svc.Name)
	s.Settle(t)
	s.unanswered(t, svc, at.clusterIP, "pod-client", "pod-a", "node-1", "client")
	s.refuses(t, svc, at.nodePort, "pod-client", "node-1", "pod-d", "client")
	for _, f := range families() {
		if s.hasAddress(t, svc.Address(f)) {
			t.Errorf("the node still has %v", svc.Address(f))
		}
		if !s.hasAddress(t, other.Address(f)) {
			t.Errorf("the node has lost %v of another Service", other.Address(f))
		}
	}
	s.answered(t, other, at.clusterIP, "pod-client", keeping("pod-b"))
}

// hasAddress reports whether ip shows an address.
func (s *stage) hasAddress(t *testing.T, a netip.Addr) bool {
	t.Helper()
	prefix := netip.PrefixFrom(a, a.BitLen())
	return s.run(t, "node-1", "ip", "-o", "addr", "show", "to", prefix.String()) != ""
}

func TestAServiceMadeAnewAnswersAtItsNewAddress(t *testing.T) {
	s := newStage(t, podsByAddress, drainsShort)
	at := frontends()
	old, next := service(1, "web", rig.Pods("pod-a")...), service(2, "web", rig.Pods("pod-b")...)
	s.offer(t, old)
	s.answered(t, old, at.clusterIP, "pod-client", keeping("pod-a"))
	s.offer(t, next)
	s.answered(t, next, at.clusterIP, "pod-client", keeping("pod-b"))
	s.answered(t, next, at.nodePort, "client", masking("pod-b"))
	s.unanswered(t, old, at.clusterIP, "pod-client", "node-1", "client")
	s.refuses(t, old, at.nodePort, "pod-client", "client")
}

func TestAnAddressThatGoesToAnotherServiceIsAnsweredByItsEndpoints(t *testing.T) {
	s := newStage(t, podsByAddress)
	at := frontends()
	old, next := service(1, "old", rig.Pods("pod-a")...), service(1, "new", rig.Pods("pod-b")...)
	s.offer(t, old)
	s.answered(t, old, at.clusterIP, "pod-client", keeping("pod-a"))
	s.Delete(t, old.Name)
	s.write(t, next)
	s.awaitWeights(t, next, "pod-b") // the old one's connections may still be ending
	s.answered(t, next, at.clusterIP, "pod-client", keeping("pod-b"))
	s.answered(t, next, at.nodePort, "client", masking("pod-b"))
}

func TestANodePortFollowsTheAddressesOfTheNode(t *testing.T) {
	s := newStage(t, podsByAddress, drainsShort)
	svc := service(1, "web", rig.Pods("pod-a", "pod-d")...)
	s.offer(t, svc)
	added := nodePortAt("node port at an added address", func(f state.Family) netip.Addr {
		if f == state.IPv4 {
			return netip.MustParseAddr("192.0.2.50")
		}
		return netip.MustParseAddr("2001:db8:1::50")
	})
	for _, prefix := range []string{"192.0.2.50/24", "2001:db8:1::50/64"} {
		// The kernel does not masquerade with a deprecated address.
		s.run(t, "node-1", "ip", "addr", "add", prefix, "dev", "eth0", "preferred_lft", "0")
	}
	s.awaitServed(t, svc, added, true)
	s.answered(t, svc, added, "client", masking("pod-a", "pod-d"))
	s.answered(t, svc, frontends().nodePort, "client", masking("pod-a", "pod-d"))
	for _, prefix := range []string{"192.0.2.50/24", "2001:db8:1::50/64"} {
		s.run(t, "node-1", "ip", "addr", "del", prefix, "dev", "eth0")
	}
	s.awaitServed(t, svc, added, false)
	s.answered(t, svc, frontends().nodePort, "client", masking("pod-a", "pod-d"))
}

// awaitServed waits until the kernel serves a Service at a frontend, or no longer does.
func (s *stage) awaitServed(t *testing.T, svc rig.Service, where frontend, want bool) {
	t.Helper()
	rig.Until(t, soon, func() error {
		servers := s.KernelWithout(t, state.New()).VirtualServers
		for _, f := range families() {
			for _, p := range protocols() {
				k := state.VirtualServerKey{Address: where.at(s, svc, f, p), Protocol: p}
				if _, there := servers[k]; there != want {
					return fmt.Errorf("%v is a virtual server: %v, want %v", k, there, want)
				}
			}
		}
		return nil
	})
}

func TestTheSchedulerIsTheConfiguredOne(t *testing.T) {
	s := newStage(t, podsByAddress, func(c *config.Config) { c.Scheduler = "sh" })
	svc := service(1, "web", rig.Pods("pod-a", "pod-b", "pod-d")...)
	s.offer(t, svc)
	// A source hash sends all connections of an address to one endpoint, and those of many addresses to all.
	taken := map[string]bool{}
	for _, client := range []string{"pod-a", "pod-b", "pod-c", "pod-client", "client"} {
		everywhere(svc, func(p state.Protocol, to netip.AddrPort) {
			got := s.answerers(t, client, p, to, stickyQuestions)
			if len(got) != 1 {
				t.Errorf("%s at %v/%v was answered by %v, want one endpoint", client, to, p, got)
			}
			taken[got[0]] = true
		})
	}
	if len(taken) < 2 {
		t.Errorf("all clients were answered by %v", taken)
	}
}

func TestAChangedPortOfTheEndpointsIsUsed(t *testing.T) {
	s := newStage(t, podsByAddress)
	const another = 8081
	for _, p := range protocols() {
		s.serve(t, "pod-b", p, another)
	}
	at := frontends()
	svc := service(1, "web", rig.Pods("pod-b")...)
	s.offer(t, svc)
	senders := s.senders(t, svc, remote())
	awaitAnswers(t, senders, "pod-b")
	svc.Ports = slices.Clone(svc.Ports)
	for i := range svc.Ports {
		svc.Ports[i].Target = another
	}
	s.offer(t, svc)
	s.answered(t, svc, at.clusterIP, "pod-client", keeping("pod-b"))
	for _, u := range senders {
		u.reset()
	}
	awaitAnswers(t, senders, "pod-b")
}
