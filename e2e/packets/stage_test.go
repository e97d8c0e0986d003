// SPDX-License-Identifier: Apache-2.0

// Package packets tests what happens to packets to Services: which server answers, or how they are refused, and what
// address the server sees. Clients and servers are real sockets in a small world, on a real kernel that the real
// kube-ipvs programs.
//
// It reads the kernel's rows only to know when to send packets. Other tests check the rows.
package packets

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// podPort is where every pod serves, over every protocol.
	podPort = 8080
	// hostPort is where the node itself listens, on all of its addresses.
	hostPort = 9100
	// closedPort is where nothing listens.
	closedPort = 9
	// soon is how long the kernel and kube-ipvs may take for immediate changes. It is less than any time after which
	// the kernel forgets by itself what kube-ipvs must delete.
	soon = 10 * time.Second
)

func families() []state.Family    { return []state.Family{state.IPv4, state.IPv6} }
func protocols() []state.Protocol { return []state.Protocol{state.TCP, state.UDP, state.SCTP} }

// stage is the small world with kube-ipvs on node-1 and servers everywhere.
type stage struct {
	*rig.Rig
	daemon *rig.Daemon
}

func newStage(t *testing.T, options ...func(*config.Config)) *stage {
	t.Helper()
	s := prepare(t, options...)
	s.begin(t, s.Argv()...)
	return s
}

// prepare is newStage without kube-ipvs.
func prepare(t *testing.T, options ...func(*config.Config)) *stage {
	t.Helper()
	s := &stage{Rig: rig.New(t, options...)}
	for _, p := range protocols() {
		for _, name := range []string{"pod-a", "pod-b", "pod-c", "pod-d"} {
			s.serve(t, name, p, podPort)
		}
		s.serve(t, "node-1", p, hostPort)
	}
	s.answerEveryRefusal(t)
	s.leadToServices(t)
	return s
}

// begin starts kube-ipvs, which has to run to the end of the test.
func (s *stage) begin(t *testing.T, argv ...string) {
	t.Helper()
	s.daemon = s.StartAs(t, argv...)
	t.Cleanup(func() {
		if err := s.daemon.Alive(); err != nil {
			t.Error(err)
		}
	})
}

func (s *stage) serve(t *testing.T, host string, p state.Protocol, port uint16) {
	t.Helper()
	if err := s.World.Host(host).Serve(p, port); err != nil {
		t.Fatal(err)
	}
}

// answerEveryRefusal lifts the limits on ICMP errors. With them a client that is refused more often than once a second
// would wait in vain, as would some of many that are refused at once. The types in ratemask are limited: here an unused
// one, as the kernel takes no empty mask.
func (s *stage) answerEveryRefusal(t *testing.T) {
	t.Helper()
	err := s.Node.Do(func() error {
		for path, value := range map[string]string{"ipv4/icmp_ratemask": "0", "ipv6/icmp/ratelimit": "0", "ipv6/icmp/ratemask": "255"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("lifting the limit on ICMP errors: %v", err)
	}
}

// leadToServices adds routes to the Services' addresses on node-2, which has no service proxy of its own.
func (s *stage) leadToServices(t *testing.T) {
	t.Helper()
	for _, r := range world.RoutesToServices() {
		s.run(t, "node-2", "ip", "route", "add", r.To.String(), "via", r.Via.String())
	}
}

func (s *stage) run(t *testing.T, host string, argv ...string) string {
	t.Helper()
	output, err := s.World.Host(host).Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// offer writes Services, each in a manifest of its own, and waits until the kernel has them.
func (s *stage) offer(t *testing.T, services ...rig.Service) {
	t.Helper()
	s.write(t, services...)
	s.Settle(t)
}

func (s *stage) write(t *testing.T, services ...rig.Service) {
	t.Helper()
	for _, svc := range services {
		s.Write(t, svc.Name, svc)
	}
}

// podsByAddress detects pods by their addresses, those of other nodes too.
func podsByAddress(c *config.Config) {
	c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: []netip.Prefix{
		netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48"),
	}}
}

// podsByLink detects the node's own pods by the links that their packets come in by.
func podsByLink(c *config.Config) {
	c.LocalDetector = config.LocalDetector{Kind: config.DetectPrefix, Interface: "veth-"}
}

// service returns a Service with a port and a node port of each protocol. No two numbers are the same.
func service(n uint8, name string, endpoints ...rig.Endpoint) rig.Service {
	svc := rig.Service{
		Name:      name,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", n))},
		Endpoints: endpoints,
	}
	for i, p := range protocols() {
		svc.Ports = append(svc.Ports, rig.Port{
			Protocol: p, Number: servicePort(p), NodePort: 30000 + uint16(i)*1000 + uint16(n), Target: podPort,
		})
	}
	return svc
}

// servicePort returns the number that a protocol has in every Service.
func servicePort(p state.Protocol) uint16 { return 80 + uint16(p) }

// exposed adds addresses for clients from outside.
func exposed(n uint8, svc rig.Service) rig.Service {
	svc.LoadBalancers = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, n}), netip.MustParseAddr(fmt.Sprintf("2001:db8:1b::%x", n))}
	svc.Externals = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, n}), netip.MustParseAddr(fmt.Sprintf("2001:db8:e::%x", n))}
	svc.HealthPort = 30500 + uint16(n)
	return svc
}

func nodePort(svc rig.Service, p state.Protocol) uint16 {
	for _, port := range svc.Ports {
		if port.Protocol == p {
			return port.NodePort
		}
	}
	return 0
}

func unready(e rig.Endpoint) rig.Endpoint {
	e.Unready = true
	return e
}

func terminating(e rig.Endpoint) rig.Endpoint {
	e.Terminating = true
	return e
}

// frontend is an address and port of a Service.
type frontend struct {
	name string
	at   func(*stage, rig.Service, state.Family, state.Protocol) netip.AddrPort
}

func (f frontend) String() string { return f.name }

// served is one of the Service's own addresses, with a port.
func served(name string, addresses func(rig.Service) []netip.Addr, number func(rig.Service, state.Protocol) uint16) frontend {
	return frontend{name, func(_ *stage, svc rig.Service, f state.Family, p state.Protocol) netip.AddrPort {
		return netip.AddrPortFrom(rig.First(f, addresses(svc)), number(svc, p))
	}}
}

func clusterIPs(svc rig.Service) []netip.Addr    { return svc.Addresses }
func loadBalancers(svc rig.Service) []netip.Addr { return svc.LoadBalancers }
func externalIPs(svc rig.Service) []netip.Addr   { return svc.Externals }

// node is an address of the node, with a port.
func node(name string, number func(rig.Service, state.Protocol) uint16) frontend {
	return frontend{name, func(s *stage, svc rig.Service, f state.Family, p state.Protocol) netip.AddrPort {
		return netip.AddrPortFrom(s.Node.Addr(f), number(svc, p))
	}}
}

// nodePortAt is the Service's node port at another address of the node.
func nodePortAt(name string, address func(state.Family) netip.Addr) frontend {
	return frontend{name, func(_ *stage, svc rig.Service, f state.Family, p state.Protocol) netip.AddrPort {
		return netip.AddrPortFrom(address(f), nodePort(svc, p))
	}}
}

func fixed(number uint16) func(rig.Service, state.Protocol) uint16 {
	return func(rig.Service, state.Protocol) uint16 { return number }
}

// gateway returns the node's address that its pods know.
func gateway(f state.Family) netip.Addr {
	for _, p := range world.Small().Nodes[0].PodCIDRs {
		if state.FamilyOf(p.Addr()) == f {
			return p.Addr().Next()
		}
	}
	return netip.Addr{}
}

func loopback(f state.Family) netip.Addr {
	if f == state.IPv4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
