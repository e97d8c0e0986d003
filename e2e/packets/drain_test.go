// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// closing is how long the kernel keeps a connection that was reset: 10 s, and some time for kube-ipvs to notice.
const closing = 20 * time.Second

// rounds is how often a client goes through all endpoints.
const rounds = 2

// awaitWeights waits until new connections to a Service can go to these pods and no others.
func (s *stage) awaitWeights(t *testing.T, svc rig.Service, pods ...string) {
	t.Helper()
	want := map[state.RealServerKey]bool{}
	for _, k := range s.servers(svc) {
		if k.Mark != 0 {
			continue
		}
		for _, pod := range pods {
			a := netip.AddrPortFrom(s.World.Host(pod).Addr(k.Family()), podPort)
			want[state.RealServerKey{Server: k, Address: a}] = true
		}
	}
	rig.Until(t, soon, func() error {
		have := map[state.RealServerKey]bool{}
		for k, v := range s.KernelWithout(t, state.New()).RealServers {
			if v.Weight > 0 && slices.Contains(s.servers(svc), k.Server) {
				have[k] = true
			}
		}
		if diff := cmp.Diff(slices.Collect(orderedKeys(want)), slices.Collect(orderedKeys(have))); diff != "" {
			return fmt.Errorf("real servers of %s that take connections (-want +have):\n%s", svc.Name, diff)
		}
		return nil
	})
}

func orderedKeys(m map[state.RealServerKey]bool) func(yield func(string) bool) {
	var list []string
	for k := range maps.Keys(m) {
		list = append(list, k.String())
	}
	slices.Sort(list)
	return slices.Values(list)
}

// servers returns the virtual servers of a Service: at its own addresses, at the node's, and for its marks.
func (s *stage) servers(svc rig.Service) []state.VirtualServerKey {
	var list []state.VirtualServerKey
	add := func(a netip.Addr, port uint16, p state.Protocol) {
		list = append(list, state.VirtualServerKey{Address: netip.AddrPortFrom(a, port), Protocol: p})
	}
	for _, p := range svc.Ports {
		for _, a := range slices.Concat(svc.Addresses, svc.LoadBalancers, svc.Externals) {
			add(a, p.Number, p.Protocol)
		}
		for _, f := range families() {
			add(s.Node.Addr(f), p.NodePort, p.Protocol)
			add(gateway(f), p.NodePort, p.Protocol)
			list = append(list, state.MarkKey(f, testkit.Mark(p.Protocol, p.NodePort)))
		}
	}
	return list
}

// openLine is an open connection of a client.
type openLine struct {
	name   string
	to     netip.AddrPort
	client *world.Host
	conn   *world.Conn
	server string
}

// allKinds returns clients of all kinds of a Service that has the pod as its endpoint.
func allKinds(pod string) []cell {
	at := frontends()
	return []cell{
		{client: "pod-client", where: at.clusterIP},
		{client: "node-1", where: at.clusterIP},
		{client: pod, where: at.clusterIP},
		{client: "pod-d", where: at.nodePort},
		{client: "client", where: at.nodePort},
	}
}

// hold opens connections of some clients until one goes to the pod, in each family.
func (s *stage) hold(t *testing.T, svc rig.Service, pod string, clients []cell) []*openLine {
	t.Helper()
	var list []*openLine
	for _, c := range clients {
		for _, f := range families() {
			l := &openLine{
				name: fmt.Sprintf("%s at %v of %s over %v", c.client, c.where, svc.Name, f),
				to:   c.where.at(s, svc, f, state.TCP), client: s.World.Host(c.client),
			}
			l.open(t, pod, len(svc.Endpoints))
			list = append(list, l)
		}
	}
	return list
}

// open opens a connection to the pod. It tries each endpoint, as the next one in turn is unknown.
func (l *openLine) open(t *testing.T, pod string, endpoints int) {
	t.Helper()
	for range endpoints {
		conn, err := l.client.Dial(t.Context(), state.TCP, l.to)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := conn.Ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if reply.Server == pod {
			l.conn, l.server = conn, pod
			t.Cleanup(func() { _ = conn.Close() }) // it may have been reset
			return
		}
		if err := conn.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s: %d connections went past %s", l.name, endpoints, pod)
}

// goesOn checks that the open connection still works, and that no new one goes to its server.
func (l *openLine) goesOn(t *testing.T, others int) {
	t.Helper()
	reply, err := l.conn.Ask(t.Context())
	if err != nil || reply.Server != l.server {
		t.Errorf("%s: the connection to %s was answered by %q: %v", l.name, l.server, reply.Server, err)
	}
	for range rounds * others {
		conn, err := l.client.Dial(t.Context(), state.TCP, l.to)
		if err != nil {
			t.Error(err)
			continue
		}
		reply, err := conn.Ask(t.Context())
		if err != nil || reply.Server == l.server {
			t.Errorf("%s: a new connection was answered by %q: %v", l.name, reply.Server, err)
		}
		if err := conn.Reset(); err != nil {
			t.Error(err)
		}
	}
}

func TestAnOpenConnectionOutlivesItsEndpoint(t *testing.T) {
	s := newStage(t, podsByAddress)
	after := map[string][]rig.Endpoint{
		"removed":     rig.Pods("pod-b"),
		"unready":     {unready(rig.Pod("pod-a")), rig.Pod("pod-b")},
		"terminating": {terminating(rig.Pod("pod-a")), rig.Pod("pod-b")},
	}
	var services []rig.Service
	for i, name := range slices.Sorted(maps.Keys(after)) {
		services = append(services, service(uint8(i+1), name, rig.Pods("pod-a", "pod-b")...))
	}
	s.offer(t, services...)
	var lines []*openLine
	for _, svc := range services {
		lines = append(lines, s.hold(t, svc, "pod-a", allKinds("pod-a"))...)
	}
	for i := range services {
		services[i].Endpoints = after[services[i].Name]
	}
	s.write(t, services...)
	for _, svc := range services {
		s.awaitWeights(t, svc, "pod-b")
	}
	for _, l := range lines {
		l.goesOn(t, 1)
	}
	if left := s.weightless(t); len(left) == 0 {
		t.Error("no real server drains, though connections to them are open")
	}
	for _, l := range lines {
		if err := l.conn.Reset(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("real servers were gone %v after their connections", s.Await(t, closing, s.Desired(t)).Round(time.Second))
}

// weightless returns the real servers that take no new connections.
func (s *stage) weightless(t *testing.T) []string {
	t.Helper()
	var list []string
	for k, v := range s.KernelWithout(t, state.New()).RealServers {
		if v.Weight == 0 {
			list = append(list, k.String())
		}
	}
	slices.Sort(list)
	return list
}

func TestAnEndpointThatComesBackTakesConnectionsAgain(t *testing.T) {
	s := newStage(t, podsByAddress)
	both, one := rig.Pods("pod-a", "pod-b"), rig.Pods("pod-b")
	svc := service(1, "web", both...)
	s.offer(t, svc)
	lines := s.hold(t, svc, "pod-a", allKinds("pod-a"))
	svc.Endpoints = one
	s.write(t, svc)
	s.awaitWeights(t, svc, "pod-b")
	svc.Endpoints = both
	s.offer(t, svc)
	for _, l := range lines {
		if reply, err := l.conn.Ask(t.Context()); err != nil || reply.Server != "pod-a" {
			t.Errorf("%s: the connection to pod-a was answered by %q: %v", l.name, reply.Server, err)
		}
		if got := s.answerers(t, l.client.Name, state.TCP, l.to, len(both)*rounds); !slices.Equal(got, []string{"pod-a", "pod-b"}) {
			t.Errorf("%s: new connections were answered by %v, want both endpoints", l.name, got)
		}
	}
}

func TestADrainingEndpointIsGoneAtItsDeadline(t *testing.T) {
	const limit = 2 * time.Second
	s := newStage(t, podsByAddress, func(c *config.Config) { c.DrainTimeout = limit })
	svc, patient := service(1, "web", rig.Pods("pod-a", "pod-b")...), service(2, "patient", rig.Pods("pod-a", "pod-b")...)
	patient.Annotations = map[string]string{"kube-ipvs.io/drain-timeout": "10m"}
	s.offer(t, svc, patient)
	lines, others := s.hold(t, svc, "pod-a", allKinds("pod-a")), s.hold(t, patient, "pod-a", allKinds("pod-a"))
	svc.Endpoints, patient.Endpoints = rig.Pods("pod-b"), rig.Pods("pod-b")
	s.write(t, svc, patient)
	s.awaitWeights(t, svc, "pod-b")
	s.awaitGone(t, svc, "pod-a")
	for _, l := range lines {
		// A reset is better than waiting for an answer: the client can connect again.
		if reply, err := l.conn.Ask(t.Context()); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: pod-a is out of service, want a reset: %v (%q answered)", l.name, err, reply.Server)
		}
	}
	for _, l := range others {
		l.goesOn(t, 1)
	}
}

// awaitGone waits until a pod is no longer a real server of a Service, not even a draining one.
func (s *stage) awaitGone(t *testing.T, svc rig.Service, pod string) {
	t.Helper()
	rig.Until(t, soon, func() error {
		for k := range s.KernelWithout(t, state.New()).RealServers {
			if k.Address.Addr() == s.World.Host(pod).Addr(k.Server.Family()) && slices.Contains(s.servers(svc), k.Server) {
				return fmt.Errorf("%v is still there", k)
			}
		}
		return nil
	})
}
