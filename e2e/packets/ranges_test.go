// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// theClient and theNodes are source ranges: of the client alone, and of it and the nodes.
func theClient() []string { return []string{"192.0.2.100/32", "2001:db8:1::100/128"} }
func theNodes() []string  { return []string{"192.0.2.0/24", "2001:db8:1::/64"} }

// guarded returns Services whose load balancers do not let in all clients.
func guarded() map[string]rig.Service {
	endpoints := rig.Pods("pod-a", "pod-d")
	return numbered(80, map[string]rig.Service{
		"the client's":         {Endpoints: endpoints, SourceRanges: theClient()},
		"the client's, Local":  {Endpoints: endpoints, SourceRanges: theClient(), ExternalLocal: true},
		"the nodes'":           {Endpoints: endpoints, SourceRanges: theNodes()},
		"the nodes', Local":    {Endpoints: endpoints, SourceRanges: theNodes(), ExternalLocal: true},
		"another client's":     {Endpoints: endpoints, SourceRanges: []string{"192.0.2.101/32", "2001:db8:1::101/128"}},
		"the client's, mapped": {Endpoints: endpoints, SourceRanges: []string{"::ffff:c000:264/128", "2001:db8:1::100/128"}},
		"a translator's":       {Endpoints: endpoints, SourceRanges: []string{"64:ff9b::192.0.2.0/96", "198.51.100.0/24"}},
		"mistyped":             {Endpoints: endpoints, SourceRanges: []string{"192.0.2.100/33", "2001:db8:1:100/128"}},
		"open to all":          {Endpoints: endpoints, SourceRanges: []string{"0.0.0.0/0", "::/0", "192.0.2.101/32", "2001:db8:1::101/128"}},
	})
}

// guards returns the fates of packets to guarded frontends.
func guards(places ...frontend) []cell {
	pods, all := names("pod-client", "pod-a", "pod-d"), names("pod-client", "pod-a", "pod-d", "node-1", "node-2", "client")
	masked, kept := masking("pod-a", "pod-d"), keeping("pod-a")
	return slices.Concat(
		cells(names("client"), places, names("the client's", "the client's, mapped"), masked),
		cells(names("client"), places, names("the client's, Local"), kept),
		cells(slices.Concat(pods, names("node-1", "node-2")), places, names("the client's", "the client's, mapped", "the client's, Local"), silent()),
		cells(names("client", "node-1", "node-2"), places, names("the nodes'"), masked),
		cells(names("client", "node-2"), places, names("the nodes', Local"), kept),
		cells(names("node-1"), places, names("the nodes', Local"), masked),
		cells(pods, places, names("the nodes'", "the nodes', Local"), silent()),
		cells(all, places, names("another client's", "a translator's", "mistyped"), silent()),
		cells(all, places, names("open to all"), masked),
	)
}

// unguarded returns the fates of packets to the Services' other frontends.
func unguarded(places ...frontend) []cell {
	everywhere := slices.Concat(allClients(), names("node-2"))
	return cells(everywhere, places, names("the client's", "another client's"), masking("pod-a", "pod-d"))
}

func nodePortRanges(c *config.Config) { c.NodePortSourceRanges = true }

func TestSourceRangesChangeUnderTheirClients(t *testing.T) {
	s := newStage(t, podsByAddress)
	at := frontends()
	svc := exposed(1, service(1, "web", rig.Pods("pod-a", "pod-b")...))
	svc.SourceRanges = slices.Concat(theClient(), []string{"192.0.2.2/32", "2001:db8:1::2/128"})
	s.offer(t, svc)
	open := s.hold(t, svc, "pod-a", []cell{{client: "node-2", where: at.loadBalancer}})
	l := s.startLoad(t, svc, []cell{{client: "client", where: at.loadBalancer}})
	for i := range 6 {
		svc.SourceRanges = append(theClient(), fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("2001:db8:%x::/48", 0x100+i), "192.0.3.1/32")
		s.offer(t, svc)
		l.more(t, perStep/4)
	}
	for _, o := range open {
		if reply, err := o.conn.Ask(t.Context()); err != nil || reply.Server != "pod-a" {
			t.Errorf("%s: it may not come any more, but was there: answered by %q: %v", o.name, reply.Server, err)
		}
	}
	list := cells(names("node-2"), []frontend{at.loadBalancer}, names(svc.Name), silent())
	for _, found := range s.exploreAll(t.Context(), list, map[string]rig.Service{svc.Name: svc})[0] {
		found.check(t, silent())
	}
	l.end()
	l.clients.Wait()
	for _, r := range l.requests() {
		if r.err != nil {
			t.Errorf("%s, which may come all the time: %v", r.client, r.err)
		}
	}
	t.Logf("%d requests", len(l.requests()))
}

func TestPingsAndUnallocatedAddresses(t *testing.T) {
	s := newStage(t, podsByAddress, nodePortRanges, func(c *config.Config) {
		c.AnswerPing = true
		c.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
	})
	// Without a route there is nothing to drop.
	s.run(t, "node-1", "ip", "route", "add", "10.96.0.0/16", "via", "192.0.2.2")
	s.run(t, "node-1", "ip", "route", "add", "fd00:10:96::/112", "via", "2001:db8:1::2")
	at := frontends()
	shapes := guarded()
	for _, svc := range shapes {
		s.write(t, svc)
	}
	s.Settle(t)
	list := slices.Concat(
		guards(at.loadBalancer, at.nodePort),
		cells(allClients(), []frontend{at.unallocated}, names("open to all"), silent()),
		cells(allClients(), []frontend{at.closed}, names("open to all"), refused()),
	)
	s.perform(t, list, shapes, true)
	s.pings(t, shapes["open to all"], nil)
}

// pings checks what clients get that ping a Service's addresses.
func (s *stage) pings(t *testing.T, svc rig.Service, want error) {
	t.Helper()
	for _, client := range allClients() {
		for _, a := range slices.Concat(svc.Addresses, svc.LoadBalancers, svc.Externals) {
			if err := s.World.Host(client).Ping(t.Context(), a); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
	}
}
