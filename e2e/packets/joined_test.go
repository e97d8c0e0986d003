// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// secondPort is another port on which the pods serve here.
const secondPort = podPort + 1

// joinedService returns a Service with two ports of each protocol, with the same numbers as at the endpoints, and one
// affinity over all.
func joinedService(endpoints ...rig.Endpoint) rig.Service {
	svc := exposed(1, service(1, "joined", endpoints...))
	svc.Sticky = true
	svc.Annotations = map[string]string{"kube-ipvs.io/affinity": "service"}
	svc.Ports = nil
	for _, p := range protocols() {
		for _, number := range []uint16{podPort, secondPort} {
			svc.Ports = append(svc.Ports, rig.Port{Protocol: p, Number: number, Target: number})
		}
	}
	return svc
}

type joinedBeside struct {
	name  string
	rules func(tool string) string
}

// neighboursOfJoined leaves out the firewall that drops the rest where ours is nftables, and Services stop.
func neighboursOfJoined(firewallInUse string) []joinedBeside {
	list := []joinedBeside{{"alone", nil}, {"beside Felix", felix}}
	if firewallInUse != state.OnNFTables.String() {
		list = append(list, joinedBeside{"beside a firewall that drops the rest", firewall})
	}
	return list
}

func TestAClientSticksToItsEndpointOverAllPorts(t *testing.T) {
	for _, c := range neighboursOfJoined(os.Getenv(rig.FirewallVariable)) {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, podsByAddress)
			for _, p := range protocols() {
				for _, pod := range []string{"pod-a", "pod-b", "pod-d"} {
					s.serve(t, pod, p, secondPort)
				}
			}
			svc := joinedService(rig.Pods("pod-a", "pod-b", "pod-d")...)
			s.offer(t, svc)
			if c.rules != nil {
				s.restore(t, c.rules)
			}
			s.allStickOverAllPorts(t, svc)
			// A client whose endpoint is removed moves to another one with all ports.
			svc.Endpoints = rig.Pods("pod-d")
			s.write(t, svc)
			rig.Until(t, soon, func() error {
				if got := s.sticksOverAllPorts(t, "client", state.TCP, svc.Addresses[0], masked); got != "pod-d" {
					return fmt.Errorf("not moved: answered by %s", got)
				}
				return nil
			})
		})
	}
}

func (s *stage) allStickOverAllPorts(t *testing.T, svc rig.Service) {
	t.Helper()
	taken := map[string]bool{}
	for _, c := range []struct {
		client string
		at     []netip.Addr
		seen   seen
	}{
		{"pod-client", svc.Addresses, own},
		{"node-1", svc.Addresses, masked},
		{"client", svc.Addresses, masked},
		{"client", svc.LoadBalancers, masked},
		{"pod-client", svc.Externals, masked},
		{"node-1", svc.LoadBalancers, masked},
	} {
		for _, a := range c.at {
			for _, p := range protocols() {
				taken[s.sticksOverAllPorts(t, c.client, p, a, c.seen)] = true
			}
		}
	}
	if len(taken) < 2 {
		t.Errorf("all clients stick to %v: that is no balancing", taken)
	}
	s.refusesOtherPorts(t, svc)
}

// refusesOtherPorts checks that ports which the Service does not have are closed, at its addresses and at the internal
// address that its ports are led to.
func (s *stage) refusesOtherPorts(t *testing.T, svc rig.Service) {
	t.Helper()
	for _, a := range []netip.Addr{svc.Addresses[0], svc.LoadBalancers[1], state.JoinedAddress(svc.Addresses[0])} {
		for _, client := range []string{"client", "pod-client", "node-1"} {
			for _, port := range []uint16{hostPort, podPort} {
				if slices.Contains(svc.Addresses, a) && port == podPort || slices.Contains(svc.LoadBalancers, a) && port == podPort {
					continue
				}
				at := netip.AddrPortFrom(a, port)
				if reply, err := s.World.Host(client).Ask(t.Context(), state.TCP, at); err == nil {
					t.Errorf("%s at %v: answered by %s", client, at, reply.Server)
				}
			}
		}
	}
}

func (s *stage) sticksOverAllPorts(t *testing.T, client string, p state.Protocol, a netip.Addr, want seen) string {
	t.Helper()
	const rounds = 3
	first := ""
	for range rounds {
		for _, port := range []uint16{podPort, secondPort} {
			at := netip.AddrPortFrom(a, port)
			reply, err := s.World.Host(client).Ask(t.Context(), p, at)
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = reply.Server
			}
			if got := s.seen(client, reply); reply.Server != first || got != want {
				t.Errorf("%s at %v/%v: answered by %s, which sees %s; want %s, seeing %s", client, at, p, reply.Server, got, first, want)
			}
		}
	}
	return first
}
