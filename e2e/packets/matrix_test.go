// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// matrix is what happens to packets under one configuration. For a new kind of Service add a shape to services and a
// few cells here; for a new kind of address add a frontend.
type matrix struct {
	name    string
	options []func(*config.Config)
	cells   []cell

	// join starts another program's work on the node, once all is in the kernel. Other tests compare trace with its
	// rules.
	join func(t *testing.T, s *stage)
}

// services returns the shapes that the cells ask.
func services() map[string]rig.Service {
	list := map[string]rig.Service{}
	for name, endpoints := range map[string][]rig.Endpoint{
		"web":     rig.Pods("pod-a", "pod-b", "pod-d"),
		"near":    rig.Pods("pod-a", "pod-b"),
		"lone":    rig.Pods("pod-a"),
		"empty":   nil,
		"unready": {unready(rig.Pod("pod-a")), unready(rig.Pod("pod-d"))},
		"leaving": {terminating(rig.Pod("pod-a")), terminating(rig.Pod("pod-d")), unready(rig.Pod("pod-b"))},
		"changing": {
			rig.Pod("pod-a"), unready(rig.Pod("pod-b")), terminating(rig.Pod("pod-d")),
		},
	} {
		list[name] = rig.Service{Endpoints: endpoints}
	}
	return numbered(10, list)
}

// numbered gives Services their numbers, from the first one on, and with them addresses and ports.
func numbered(first uint8, shapes map[string]rig.Service) map[string]rig.Service {
	list := map[string]rig.Service{}
	for i, name := range slices.Sorted(maps.Keys(shapes)) {
		n, shape := first+uint8(i), shapes[name]
		svc := exposed(n, service(n, name, shape.Endpoints...))
		svc.InternalLocal, svc.ExternalLocal, svc.SourceRanges = shape.InternalLocal, shape.ExternalLocal, shape.SourceRanges
		list[name] = svc
	}
	return list
}

// The places to ask at.
func frontends() (list struct {
	clusterIP, nodePort, loadBalancer, externalIP        frontend
	gatewayPort, loopbackPort                            frontend
	otherProtocol, hostThroughVIP, nodePortAtVIP, closed frontend
	closedAtLoadBalancer, closedAtExternalIP             frontend
	host, unallocated                                    frontend
}) {
	number := func(_ rig.Service, p state.Protocol) uint16 { return servicePort(p) }
	other := func(_ rig.Service, p state.Protocol) uint16 {
		if p == state.TCP {
			return servicePort(state.UDP)
		}
		return servicePort(state.TCP)
	}
	list.clusterIP = served("cluster IP", clusterIPs, number)
	list.nodePort = node("node port", nodePort)
	list.loadBalancer = served("load balancer", loadBalancers, number)
	list.externalIP = served("external IP", externalIPs, number)
	list.gatewayPort = nodePortAt("node port at the gateway", gateway)
	list.loopbackPort = nodePortAt("node port at loopback", loopback)
	list.otherProtocol = served("port of another protocol", clusterIPs, other)
	list.hostThroughVIP = served("cluster IP with a port of the host", clusterIPs, fixed(hostPort))
	list.nodePortAtVIP = served("cluster IP with its node port", clusterIPs, nodePort)
	list.closed = served("cluster IP with a closed port", clusterIPs, fixed(closedPort))
	list.closedAtLoadBalancer = served("load balancer with a closed port", loadBalancers, fixed(closedPort))
	list.closedAtExternalIP = served("external IP with a closed port", externalIPs, fixed(closedPort))
	list.host = node("node with a port of the host", fixed(hostPort))
	list.unallocated = served("unallocated cluster IP", func(rig.Service) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("10.96.200.200"), netip.MustParseAddr("fd00:10:96::c8c8")}
	}, number)
	return list
}

// allClients returns one client of each kind: a pod of the node, an endpoint, the node, a pod elsewhere, and a client
// outside the cluster.
func allClients() []string { return []string{"pod-client", "pod-a", "node-1", "pod-d", "client"} }

// matrices returns the fates, by kube-proxy's reference for each of its rules.
func matrices() []matrix {
	at := frontends()
	inCluster := []frontend{at.clusterIP}
	return []matrix{
		{name: "pods known by address", options: []func(*config.Config){podsByAddress}, cells: slices.Concat(
			[]cell{
				{"pod-client", at.clusterIP, "web", keeping("pod-a", "pod-b", "pod-d")},
				{"pod-a", at.clusterIP, "web", keeping("pod-b", "pod-d").and(masking("pod-a"))},
				{"pod-a", at.clusterIP, "lone", masking("pod-a")},
				{"node-1", at.clusterIP, "web", masking("pod-a", "pod-b", "pod-d")},
				{"pod-d", at.clusterIP, "near", keeping("pod-a", "pod-b")},
				{"client", at.clusterIP, "web", masking("pod-a", "pod-b", "pod-d")},
				{"pod-a", at.nodePort, "lone", masking("pod-a")},
				{"pod-client", at.gatewayPort, "web", masking("pod-a", "pod-b", "pod-d")},
				{"node-1", at.loopbackPort, "web", refused()},
				{"pod-client", at.clusterIP, "changing", keeping("pod-a")},
				{"client", at.nodePort, "changing", masking("pod-a")},
				{"pod-client", at.clusterIP, "leaving", keeping("pod-a", "pod-d")},
				{"client", at.nodePort, "leaving", masking("pod-a", "pod-d")},
			},
			cells(allClients(), []frontend{at.nodePort}, []string{"web"}, masking("pod-a", "pod-b", "pod-d")),
			cells(allClients(), []frontend{at.clusterIP, at.nodePort}, []string{"empty", "unready"}, refused()),
			cells(allClients(), []frontend{at.otherProtocol, at.nodePortAtVIP, at.closed}, []string{"web"}, refused()),
			cells(allClients(), []frontend{at.closedAtLoadBalancer, at.closedAtExternalIP}, []string{"web", "both, external Local"}, refused()),
			cells(allClients(), []frontend{at.hostThroughVIP}, []string{"web", "empty"}, refused()),
			cells(allClients(), []frontend{at.host}, []string{"web"}, keeping("node-1")),
			reference(policies(), []string{"pod-client", "pod-a", "pod-d"}, []string{"client"}, masked),
			guards(at.loadBalancer),
			unguarded(at.nodePort, at.externalIP),
		)},
		{name: "pods known by link", options: []func(*config.Config){podsByLink}, cells: slices.Concat(
			[]cell{
				{"pod-a", at.clusterIP, "web", keeping("pod-b", "pod-d").and(masking("pod-a"))},
				{"pod-client", at.clusterIP, "web", keeping("pod-a", "pod-b", "pod-d")},
			},
			cells([]string{"node-1", "pod-d", "client"}, inCluster, []string{"web"}, masking("pod-a", "pod-b", "pod-d")),
			reference(eitherPolicy(), []string{"pod-client", "pod-a"}, []string{"pod-d", "client"}, masked),
		)},
		{name: "pods not known", cells: slices.Concat([]cell{
			{"pod-client", at.clusterIP, "web", keeping("pod-a", "pod-b", "pod-d")},
			{"pod-a", at.clusterIP, "lone", masking("pod-a")},
			{"node-1", at.clusterIP, "web", masking("pod-a", "pod-b", "pod-d")},
			{"client", at.clusterIP, "near", keeping("pod-a", "pod-b")},
			{"client", at.nodePort, "web", masking("pod-a", "pod-b", "pod-d")},
		}, reference(eitherPolicy(), nil, []string{"pod-client", "pod-a", "pod-d", "client"}, own))},
		{name: "pods known by address, hairpins of all nodes", options: []func(*config.Config){podsByAddress, remoteHairpins},
			cells: rule{clients: []string{"pod-d"}, frontends: inCluster, choice: func(p place) []string { return p.cluster }, sees: own, through: true}.
				cells(policies())},
		{name: "all masqueraded", options: []func(*config.Config){podsByAddress, masqueradeAll},
			cells: cells(allClients(), inCluster, []string{"web"}, masking("pod-a", "pod-b", "pod-d"))},
	}
}

func remoteHairpins(c *config.Config) { c.RemoteHairpins = true }

func masqueradeAll(c *config.Config) { c.MasqueradeAll = true }

func TestEveryPacketMeetsItsFate(t *testing.T) {
	for _, m := range matrices() {
		t.Run(m.name, func(t *testing.T) { m.run(t) })
	}
}

// The fates are the same if Service addresses are routed.
func TestEveryPacketToARoutedAddressMeetsItsFate(t *testing.T) {
	for _, m := range matrices() {
		m.options = append(m.options, routed)
		t.Run(m.name, func(t *testing.T) { m.run(t, func(s *stage) { s.nameNode(t) }) })
	}
}

func (m matrix) run(t *testing.T, furnish ...func(*stage)) {
	shapes := services()
	maps.Copy(shapes, placed())
	maps.Copy(shapes, guarded())
	s := newStage(t, m.options...)
	for _, f := range furnish {
		f(s)
	}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		s.write(t, shapes[name])
	}
	s.Settle(t)
	if m.join != nil {
		m.join(t, s)
	}
	s.perform(t, m.cells, shapes, m.join == nil)
}

// perform explores cells and compares each with its fate, and on request with what trace says.
func (s *stage) perform(t *testing.T, list []cell, shapes map[string]rig.Service, traced bool) {
	t.Helper()
	tr := s.tracer(t)
	for i, found := range s.exploreAll(t.Context(), list, shapes) {
		c := list[i]
		good := t.Run(c.String(), func(t *testing.T) {
			for _, f := range found {
				f.check(t, c.want)
			}
			if traced {
				tr.check(t, c, shapes[c.service])
			}
		})
		t.Log(line(c, good))
	}
}

// exploreAll explores the cells with answers one after the other, as endpoints answer in turn, and all others at once,
// as their clients wait: on one kernel a client refused over TCP and IPv6 gets the refusal only with its second try, a
// second later, if the first comes back before the client has finished sending.
func (s *stage) exploreAll(ctx context.Context, cells []cell, shapes map[string]rig.Service) [][]finding {
	found := make([][]finding, len(cells))
	var others sync.WaitGroup
	for i, c := range cells {
		if len(c.want.Answers) > 0 {
			found[i] = s.explore(ctx, c, shapes[c.service])
			continue
		}
		others.Go(func() { found[i] = s.explore(ctx, c, shapes[c.service]) })
	}
	others.Wait()
	return found
}

// line formats the cell as a line of a table.
func line(c cell, good bool) string {
	verdict := "as wanted"
	if !good {
		verdict = "WRONG"
	}
	return fmt.Sprintf("%-10s | %-36s | %-28s | %-62s | %s", c.client, c.where, c.service, c.want, verdict)
}
