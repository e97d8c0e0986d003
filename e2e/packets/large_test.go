// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// datagram is a question over UDP of so many bytes.
type datagram struct {
	client string
	where  frontend
	family state.Family
	bytes  int
}

// send asks once, with a socket of its own, and returns why there is no answer.
func (s *stage) send(t *testing.T, svc rig.Service, d datagram) error {
	t.Helper()
	conn, err := s.World.Host(d.client).Dial(t.Context(), state.UDP, d.where.at(s, svc, d.family, state.UDP))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), answerTime)
	defer cancel()
	_, err = conn.AskAtLength(ctx, d.bytes)
	return err
}

// narrow sets the MTU of the link between a pod and its node.
func (s *stage) narrow(t *testing.T, pod, mtu string) {
	t.Helper()
	s.run(t, "node-1", "ip", "link", "set", "veth-"+pod, "mtu", mtu)
	s.run(t, pod, "ip", "link", "set", "eth0", "mtu", mtu)
}

// What the node sends to its own address goes by loopback, which carries 64 KiB; the endpoint's device does not. A
// client of syslog or NFS may send only one datagram.
func TestTheFirstLargeDatagramOfTheNodeIsAnswered(t *testing.T) {
	for name, option := range map[string]func(*config.Config){"address": assigned, "route": routed} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, podsByAddress, option)
			s.nameNode(t)
			near, far := exposed(1, service(1, "near", rig.Pod("pod-a"))), exposed(2, service(2, "far", rig.Pod("pod-d")))
			s.offer(t, near, far)
			answered := func(bytes ...int) {
				t.Helper()
				at := frontends()
				for _, n := range bytes {
					for _, where := range []frontend{at.clusterIP, at.loadBalancer, at.externalIP} {
						for _, svc := range []rig.Service{near, far} {
							if err := s.send(t, svc, datagram{"node-1", where, state.IPv4, n}); err != nil {
								t.Errorf("%d bytes to the %v of %s: %v", n, where, svc.Name, err)
							}
						}
					}
				}
			}
			answered(1400, 1600, 4000)
			s.narrow(t, "pod-a", "1400")
			s.Settle(t)
			answered(1390, 1450, 4000)
			s.narrow(t, "pod-a", "1500")
			s.Settle(t)
			answered(1400, 1600, 4000)
		})
	}
}

// IPVS drops a packet that is larger than the endpoint's device carries before it is fragmented: over IPv6 always, and
// over IPv4 at an address of the node's own, whose route is not ours to change. docs/services.md says so.
func TestTheNodeLearnsOfLargeDatagramsThatAreDropped(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := service(1, "near", rig.Pod("pod-a"))
	s.offer(t, svc)
	at := frontends()
	for _, c := range []struct {
		where  frontend
		family state.Family
	}{{at.clusterIP, state.IPv6}, {at.nodePort, state.IPv6}, {at.nodePort, state.IPv4}} {
		if err := s.send(t, svc, datagram{"node-1", c.where, c.family, 1600}); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("at the %v over %v: %v, want %v", c.where, c.family, err, unix.EMSGSIZE)
		}
	}
	rig.Until(t, soon, func() error { return s.send(t, svc, datagram{"node-1", at.nodePort, state.IPv4, 1600}) })
}

// A client elsewhere gets the MTU of the endpoint's device by ICMP, and fragments its datagrams.
func TestClientsLearnTheMTUOfThePath(t *testing.T) {
	for name, option := range map[string]func(*config.Config){"address": assigned, "route": routed} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, podsByAddress, option)
			s.nameNode(t)
			s.narrow(t, "pod-a", "1400")
			svc := service(1, "near", rig.Pod("pod-a"))
			s.offer(t, svc)
			for _, client := range []string{"client", "pod-client", "pod-d"} {
				for _, f := range families() {
					d := datagram{client, frontends().clusterIP, f, 1440}
					if err := s.send(t, svc, d); !errors.Is(err, unix.EMSGSIZE) {
						t.Errorf("%s over %v: %v, want %v", client, f, err, unix.EMSGSIZE)
					}
					rig.Until(t, soon, func() error {
						if err := s.send(t, svc, d); err != nil {
							return fmt.Errorf("%s over %v: %w", client, f, err)
						}
						return nil
					})
				}
			}
		})
	}
}
