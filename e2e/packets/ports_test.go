// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The ports on which kube-ipvs itself answers.

func TestALoadBalancerLearnsWhereEndpointsAre(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := local(1, "web", "pod-a", "pod-b", "pod-d")
	svc.HealthPort = 32100
	for _, c := range []struct {
		endpoints []rig.Endpoint
		status    string
		local     int
	}{
		{rig.Pods("pod-a", "pod-b", "pod-d"), "200 OK", 2},
		{rig.Pods("pod-d"), "503 Service Unavailable", 0},
		{[]rig.Endpoint{terminating(rig.Pod("pod-a")), rig.Pod("pod-d")}, "503 Service Unavailable", 0},
		{rig.Pods("pod-a"), "200 OK", 1},
	} {
		svc.Endpoints = c.endpoints
		s.write(t, svc)
		for _, f := range families() {
			at := netip.AddrPortFrom(s.Node.Addr(f), svc.HealthPort)
			rig.Until(t, soon, func() error { return s.answersHealthChecks(t.Context(), at, c.status, c.local) })
		}
	}
	s.Delete(t, svc.Name)
	at := netip.AddrPortFrom(s.Node.Addr(state.IPv4), svc.HealthPort)
	rig.Until(t, soon, func() error {
		if output, err := s.get(t.Context(), at, "/"); err == nil {
			return fmt.Errorf("health check of a deleted Service is answered: %s", output)
		}
		return nil
	})
}

// A load balancer that leaves its address in the packet checks a node's health at that address. Its other ports refuse.
func TestTheProxysHealthIsAnsweredAtAServicesAddress(t *testing.T) {
	const healthz, hostPort = 10256, 10249
	s := newStage(t, podsByAddress)
	svc := exposed(1, service(1, "web", rig.Pods("pod-a")...))
	s.offer(t, svc)
	for i, f := range families() {
		for _, a := range []netip.Addr{s.Node.Addr(f), svc.LoadBalancers[i]} {
			output, err := s.get(t.Context(), netip.AddrPortFrom(a, healthz), "/healthz")
			if err != nil || !strings.Contains(output, `"healthy":`) {
				t.Errorf("the proxy's health at %v: %v %s", a, err, output)
			}
		}
		if output, err := s.get(t.Context(), netip.AddrPortFrom(svc.LoadBalancers[i], hostPort), "/"); err == nil {
			t.Errorf("a port of the host is answered at the load balancer's address: %s", output)
		}
	}
}

func (s *stage) get(ctx context.Context, at netip.AddrPort, path string) (string, error) {
	return s.World.Host("client").Run(ctx, "curl", "-s", "-i", "--max-time", "5", "http://"+at.String()+path)
}

func (s *stage) answersHealthChecks(ctx context.Context, at netip.AddrPort, status string, local int) error {
	output, err := s.get(ctx, at, "/")
	if err != nil {
		return err
	}
	for _, want := range []string{
		"HTTP/1.1 " + status, fmt.Sprintf("X-Load-Balancing-Endpoint-Weight: %d\r\n", local), fmt.Sprintf("\"localEndpoints\": %d", local),
	} {
		if !strings.Contains(output, want) {
			return fmt.Errorf("health check at %v: no %q in %s", at, want, output)
		}
	}
	return nil
}

func TestNodePortsOnLocalhostIfAskedFor(t *testing.T) {
	s := newStage(t, podsByAddress, func(c *config.Config) { c.LocalhostNodePorts = true })
	svc := local(1, "web", "pod-a", "pod-d")
	s.offer(t, svc)
	s.answersOnLocalhost(t, svc)
}

// TestNodePortsOnLocalhostAlone is the word localhost in nodePortAddresses, without other addresses.
func TestNodePortsOnLocalhostAlone(t *testing.T) {
	s := newStage(t, podsByAddress, func(c *config.Config) {
		c.LocalhostNodePorts = true
		c.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	})
	svc := local(1, "web", "pod-a", "pod-d")
	s.offer(t, svc)
	s.answersOnLocalhost(t, svc)
	for _, f := range families() {
		at := netip.AddrPortFrom(s.Node.Addr(f), nodePort(svc, state.TCP))
		for _, from := range []string{"client", "pod-a", s.Node.Name} {
			if reply, err := s.World.Host(from).Ask(t.Context(), state.TCP, at); err == nil {
				t.Errorf("%s: %v answers: %v", from, at, reply.Server)
			}
		}
	}
}

// answersOnLocalhost waits until the NodePorts of svc answer this node at the loopback addresses, from all endpoints.
func (s *stage) answersOnLocalhost(t *testing.T, svc rig.Service) {
	t.Helper()
	for _, f := range families() {
		for _, p := range []state.Protocol{state.TCP, state.UDP} {
			at := netip.AddrPortFrom(loopback(f), nodePort(svc, p))
			answered := map[string]seen{}
			rig.Until(t, soon, func() error {
				reply, err := s.Node.Ask(t.Context(), p, at)
				if err != nil {
					return fmt.Errorf("%v/%v: %w", at, p, err)
				}
				answered[reply.Server] = s.seen(s.Node.Name, reply)
				if diff := cmp.Diff(masking("pod-a", "pod-d").Answers, answered); diff != "" {
					return fmt.Errorf("%v/%v (-want +got):\n%s", at, p, diff)
				}
				return nil
			})
		}
	}
}
