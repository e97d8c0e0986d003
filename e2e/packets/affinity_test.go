// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// stickyQuestions is how often a client asks to show that it sticks.
const stickyQuestions = 6

// ask asks over a new connection. A failure ends the test.
func (s *stage) ask(t *testing.T, client string, p state.Protocol, to netip.AddrPort) string {
	t.Helper()
	reply, err := s.World.Host(client).Ask(t.Context(), p, to)
	if err != nil {
		t.Fatal(err)
	}
	return reply.Server
}

// answerers returns the servers that answer a number of questions.
func (s *stage) answerers(t *testing.T, client string, p state.Protocol, to netip.AddrPort, questions int) []string {
	t.Helper()
	seen := map[string]bool{}
	for range questions {
		seen[s.ask(t, client, p, to)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// everywhere calls f for a Service's cluster IP in each family and over each protocol.
func everywhere(svc rig.Service, f func(state.Protocol, netip.AddrPort)) {
	for _, family := range families() {
		for _, p := range protocols() {
			f(p, netip.AddrPortFrom(svc.Address(family), servicePort(p)))
		}
	}
}

func TestAClientSticksToItsEndpoint(t *testing.T) {
	s := newStage(t, podsByAddress)
	clients := []string{"pod-client", "node-1", "client"}
	svc := service(1, "sticky", rig.Pods("pod-a", "pod-b", "pod-d")...)
	svc.Sticky = true
	s.offer(t, svc)

	choice := map[string]string{}
	key := func(client string, p state.Protocol, to netip.AddrPort) string {
		return fmt.Sprint(client, " ", p, " ", to)
	}
	everywhere(svc, func(p state.Protocol, to netip.AddrPort) {
		taken := map[string]bool{}
		for _, client := range clients {
			got := s.answerers(t, client, p, to, stickyQuestions)
			if len(got) != 1 {
				t.Errorf("%s at %v/%v was answered by %v, want one endpoint", client, to, p, got)
			}
			choice[key(client, p, to)] = got[0]
			taken[got[0]] = true
		}
		// The scheduler gives each new client the next endpoint in turn.
		if len(taken) != len(clients) {
			t.Errorf("%v/%v: %d clients share the endpoints %v, want one for each", to, p, len(clients), slices.Sorted(maps.Keys(taken)))
		}
	})

	svc.Endpoints = rig.Pods("pod-a", "pod-d")
	s.write(t, svc)
	s.awaitWeights(t, svc, "pod-a", "pod-d")
	everywhere(svc, func(p state.Protocol, to netip.AddrPort) {
		for _, client := range clients {
			before, got := choice[key(client, p, to)], s.answerers(t, client, p, to, stickyQuestions)
			switch {
			case len(got) != 1 || got[0] == "pod-b":
				t.Errorf("pod-b is gone: %s at %v/%v was answered by %v, want one other endpoint", client, to, p, got)
			case before != "pod-b" && got[0] != before:
				t.Errorf("pod-b is gone: %s at %v/%v went from %s to %s, want it to stay", client, to, p, before, got[0])
			}
		}
	})

	svc.Sticky = false
	s.write(t, svc)
	s.awaitWeights(t, svc, "pod-a", "pod-d")
	rig.Until(t, soon, func() error { return s.sticky(t, svc, 0) })
	everywhere(svc, func(p state.Protocol, to netip.AddrPort) {
		got := s.answerers(t, "pod-client", p, to, 2*rounds)
		if diff := cmp.Diff([]string{"pod-a", "pod-d"}, got); diff != "" {
			t.Errorf("affinity is off: %v/%v was answered by %v, want all endpoints", to, p, got)
		}
	})
}

func TestAClientMayGoElsewhereWhenItsTimeIsUp(t *testing.T) {
	const seconds = 3
	// The kernel keeps a client's endpoint for as long as it knows connections to it.
	s := newStage(t, podsByAddress, func(c *config.Config) { c.UDPTimeout = time.Second })
	svc := service(1, "sticky", rig.Pods("pod-a", "pod-b")...)
	svc.Sticky, svc.StickyFor = true, seconds
	other := service(2, "default", rig.Pods("pod-a")...)
	other.Sticky = true
	s.offer(t, svc, other)
	if err := s.sticky(t, svc, seconds); err != nil {
		t.Error(err)
	}
	if err := s.sticky(t, other, 10800); err != nil {
		t.Error(err)
	}
	ask := func(f state.Family) string {
		return s.ask(t, "client", state.UDP, netip.AddrPortFrom(svc.Address(f), servicePort(state.UDP)))
	}
	began := time.Now()
	first := map[state.Family]string{}
	for _, f := range families() {
		first[f] = ask(f)
	}
	rig.Until(t, soon, func() error {
		if all := s.connections(t); len(all) > 0 {
			return fmt.Errorf("IPVS still knows %v", all)
		}
		return nil
	})
	if took := time.Since(began); took < seconds*time.Second {
		t.Errorf("the client could go elsewhere after %v, want %d s", took, seconds)
	}
	for _, f := range families() {
		if next := ask(f); next == first[f] {
			t.Errorf("%v: the client is at %s again though it is the other's turn", f, next)
		}
	}
}

// sticky returns an error unless each client of a Service keeps its endpoint for so many seconds.
func (s *stage) sticky(t *testing.T, svc rig.Service, seconds uint32) error {
	t.Helper()
	servers := s.Kernel(t).VirtualServers
	for _, f := range families() {
		for _, p := range svc.Ports {
			k := state.VirtualServerKey{Address: netip.AddrPortFrom(svc.Address(f), p.Number), Protocol: p.Protocol}
			v, there := servers[k]
			if !there || v.Timeout != seconds || (v.Flags&state.Persistent != 0) != (seconds != 0) {
				return fmt.Errorf("%v is %+v, want persistence of %d s", k, v, seconds)
			}
		}
	}
	return nil
}

// connections returns IPVS's connections, and its memory of clients' endpoints.
func (s *stage) connections(t *testing.T) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(s.run(t, "node-1", "cat", "/proc/net/ip_vs_conn")), "\n")
	return lines[1:] // without the heading
}
