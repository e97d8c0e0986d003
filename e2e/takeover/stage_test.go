// SPDX-License-Identifier: Apache-2.0

// Package takeover tests how kube-ipvs takes kube-proxy's place on a node and gives it back under load. The standard
// tools write what kube-proxy leaves there, rule by rule.
//
// The real kube-proxy is in package cluster, as it needs a real API server.
package takeover

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// podPort is where every pod serves.
const podPort = 8080

func families() []state.Family { return []state.Family{state.IPv4, state.IPv6} }

// stage is the small world after kube-proxy on node-1.
type stage struct {
	*rig.Rig
	services []rig.Service
	// detects is whether kube-proxy, and kube-ipvs, can detect pods.
	detects bool
}

// podCIDR returns the networks of all pods.
func podCIDR(f state.Family) string {
	if f == state.IPv4 {
		return "10.244.0.0/16"
	}
	return "fd00:10:244::/48"
}

func newStage(t *testing.T, detects bool, options ...func(*config.Config)) *stage {
	t.Helper()
	options = append(options, func(c *config.Config) {
		if !detects {
			return
		}
		c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: []netip.Prefix{
			netip.MustParsePrefix(podCIDR(state.IPv4)), netip.MustParsePrefix(podCIDR(state.IPv6)),
		}}
	})
	s := &stage{Rig: rig.New(t, options...), services: services(), detects: detects}
	for _, pod := range []string{"pod-a", "pod-b", "pod-c", "pod-d"} {
		for _, p := range []state.Protocol{state.TCP, state.UDP} {
			if err := s.World.Host(pod).Serve(p, podPort); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range world.RoutesToServices() {
		s.run(t, "node-2", "ip", "route", "add", r.To.String(), "via", r.Via.String())
	}
	s.route(t)
	s.kubelet(t)
	s.foreignRows(t)
	s.Keep(t)
	for _, svc := range s.services {
		s.Write(t, svc.Name, svc)
	}
	return s
}

// route makes the node a router, as kube-proxy does, with a default route: by rules alone a Service's address needs
// one.
func (s *stage) route(t *testing.T) {
	t.Helper()
	s.run(t, "node-1", "sh", "-euc", `
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip route add default via 192.0.2.254
ip route add default via 2001:db8:1::fe
`)
}

// services returns one Service of each kind that kube-proxy treats differently.
func services() []rig.Service {
	web := service(1, "web", rig.Pods("pod-a", "pod-d")...)
	near := exposed(2, service(2, "near", rig.Pods("pod-b", "pod-d")...))
	near.ExternalLocal = true
	far := exposed(3, service(3, "far", rig.Pods("pod-d")...))
	far.ExternalLocal = true
	wide := exposed(4, service(4, "wide", rig.Pods("pod-a", "pod-b", "pod-d")...))
	sticky := service(5, "sticky", rig.Pods("pod-a", "pod-b", "pod-d")...)
	sticky.Sticky = true
	return []rig.Service{web, near, far, wide, sticky, service(6, "none")}
}

// service returns a Service with a TCP and a UDP port, with node ports.
func service(n uint8, name string, endpoints ...rig.Endpoint) rig.Service {
	return rig.Service{
		Name:      name,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", n))},
		Ports: []rig.Port{
			{Protocol: state.TCP, Number: 80, NodePort: 30000 + uint16(n), Target: podPort},
			{Protocol: state.UDP, Number: 53, NodePort: 31000 + uint16(n), Target: podPort},
		},
		Endpoints: endpoints,
	}
}

// exposed adds an address for clients from outside.
func exposed(n uint8, svc rig.Service) rig.Service {
	svc.LoadBalancers = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, n}), netip.MustParseAddr(fmt.Sprintf("2001:db8:1b::%x", n))}
	svc.HealthPort = 30500 + uint16(n)
	return svc
}

func (s *stage) run(t testing.TB, host string, argv ...string) string {
	t.Helper()
	output, err := s.World.Host(host).Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// feed gives a text to a program on the node.
func (s *stage) feed(t testing.TB, text string, argv ...string) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "input-")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	s.run(t, "node-1", "sh", "-euc", strings.Join(argv, " ")+" < "+file.Name())
}

func tool(f state.Family, rest string) string {
	if f == state.IPv4 {
		return "iptables" + rest
	}
	return "ip6tables" + rest
}

// kubelet writes kubelet's rows, which kube-proxy's iptables mode uses, too.
func (s *stage) kubelet(t *testing.T) {
	t.Helper()
	for _, f := range families() {
		s.feed(t, `*mangle
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
COMMIT
*nat
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
`, tool(f, "-restore"), "--noflush")
	}
}

// foreignRows writes rows of a CNI plugin, an operator and another load balancer.
func (s *stage) foreignRows(t *testing.T) {
	t.Helper()
	s.run(t, "node-1", "sh", "-euc", `
ipset create FOREIGN hash:ip,port
ipset add FOREIGN 192.0.2.1,tcp:25
ipvsadm -A -t 192.0.2.1:25 -s wlc
ipvsadm -a -t 192.0.2.1:25 -r 10.244.1.13:25 -m
ipvsadm -A -f 7 -s rr
iptables -t nat -N CNI-HOSTPORT
iptables -t nat -A CNI-HOSTPORT -p tcp --dport 8081 -j DNAT --to-destination 10.244.1.13:8080
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT
iptables -A FORWARD -i eth0 -p tcp --dport 9999 -j DROP
ip addr add 192.0.2.77/32 dev lo
`)
}
