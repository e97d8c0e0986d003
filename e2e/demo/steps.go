// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// requests and mostRequests are how often a client asks, at least and at most, until every endpoint has answered.
	requests     = 40
	mostRequests = 200
	// tooMany failures are enough to stop.
	tooMany = 3
	// answerTime is how long one request may take.
	answerTime = 3 * time.Second
	// silence is how long a client waits for an answer that should not come.
	silence = time.Second
	// ownPort is a port of the node that no Service has.
	ownPort = 22222
)

// step is one thing to show, for both families.
type step struct {
	title string
	test  func(context.Context) map[state.Family]*tally
}

// part is some steps under one heading.
type part struct {
	title string
	steps []step
}

func (s *stage) parts() []part {
	return []part{
		{"Who answers", []step{
			{"a pod asks a ClusterIP", each(s.podAsks)},
			{"the node asks a ClusterIP", each(s.nodeAsks)},
			{"a pod reaches itself (hairpin)", each(s.podAsksItself)},
			{"outside asks a NodePort", each(s.outsideAsks)},
			{"a pod asks over UDP", each(s.podAsksOverUDP)},
			{"outside asks a UDP NodePort", each(s.outsideAsksOverUDP)},
			{"session affinity: ClientIP", each(s.clientsStay)},
			{"the node's ports stay its own", each(s.nodePortsStayItsOwn)},
		}},
		{"pod-c takes the place of pod-b, under load", []step{{"an endpoint is replaced", s.replaceEndpoint}}},
		{"What the kernel holds: kube-ipvs dump", []step{{"the kernel's tables are shown", s.dump}}},
		{"kube-ipvs is stopped", []step{{"traffic goes on", s.stopDaemon}}},
	}
}

// each tests one family after the other.
func each(test func(context.Context, state.Family) tally) func(context.Context) map[state.Family]*tally {
	return func(ctx context.Context) map[state.Family]*tally {
		tested := map[state.Family]*tally{}
		for _, f := range families() {
			t := test(ctx, f)
			tested[f] = &t
		}
		return tested
	}
}

func (s *stage) podAsks(ctx context.Context, f state.Family) tally {
	return s.reach(ctx, "pod-client", "shop/web", s.shop["shop/web"].vip(f))
}

func (s *stage) nodeAsks(ctx context.Context, f state.Family) tally {
	return s.reach(ctx, "node-1", "shop/web", s.shop["shop/web"].vip(f))
}

func (s *stage) podAsksItself(ctx context.Context, f state.Family) tally {
	return s.reach(ctx, "pod-a", "shop/web", s.shop["shop/web"].vip(f))
}

func (s *stage) outsideAsks(ctx context.Context, f state.Family) tally {
	return s.reach(ctx, "client", "shop/web", s.nodePort("shop/web", f))
}

func (s *stage) podAsksOverUDP(ctx context.Context, f state.Family) tally {
	return s.reach(ctx, "pod-client", "shop/dns", s.shop["shop/dns"].vip(f))
}

func (s *stage) outsideAsksOverUDP(ctx context.Context, f state.Family) tally {
	return s.reach(ctx, "client", "shop/dns", s.nodePort("shop/dns", f))
}

// clientsStay shows that one endpoint answers each client of a Service with affinity.
func (s *stage) clientsStay(ctx context.Context, f state.Family) (t tally) {
	api := s.shop["shop/api"]
	for _, name := range []string{"pod-client", "pod-c", "node-1"} {
		var own tally
		for own.asked < requests/4 && own.failed < tooMany {
			own.count(ask(ctx, s.world.Host(name), api.protocol, api.vip(f)))
		}
		if len(own.servers) != 1 {
			own.complain(fmt.Errorf("%s was answered by %d endpoints, want one", name, len(own.servers)))
		}
		t.add(own)
		t.note("%-*s asks  %s", len("pod-client"), name, own.bars())
	}
	return t
}

// nodePortsStayItsOwn shows that a server on all of the node's addresses does not answer at the ClusterIPs, though
// these are addresses of the node, too.
func (s *stage) nodePortsStayItsOwn(ctx context.Context, f state.Family) (t tally) {
	node := s.world.Host("node-1")
	if err := node.ServeOn(state.TCP, netip.AddrPortFrom(f.Unspecified(), ownPort)); err != nil {
		t.complain(err)
		return t
	}
	own := netip.AddrPortFrom(node.Addr(f), ownPort)
	t.count(ask(ctx, s.world.Host("client"), state.TCP, own))
	vip := netip.AddrPortFrom(s.shop["shop/web"].vips[f], ownPort)
	for _, name := range []string{"client", "pod-client"} {
		short, cancel := context.WithTimeout(ctx, silence)
		reply, err := s.world.Host(name).Ask(short, state.TCP, vip)
		cancel()
		t.asked++
		if err == nil {
			t.failed++
			t.complain(fmt.Errorf("%s answered %s on %v", reply.Server, name, vip))
		}
	}
	if t.wrong == nil {
		t.note("node-1 answers on %v, nothing on %v", own, vip)
	}
	return t
}

// dump shows what kube-ipvs says of the kernel's tables.
func (s *stage) dump(ctx context.Context) map[state.Family]*tally {
	text, err := s.world.Host("node-1").Run(ctx, s.options.daemon, "dump")
	s.page.aside(text)
	tested := map[state.Family]*tally{}
	for _, f := range families() {
		t := &tally{}
		if err != nil {
			t.complain(err)
		}
		for name, svc := range s.shop {
			if !strings.Contains(text, svc.vips[f].String()) {
				t.complain(fmt.Errorf("%v of %s is not in it", svc.vips[f], name))
			}
		}
		t.note("%d lines", strings.Count(text, "\n"))
		tested[f] = t
	}
	return tested
}

// stopDaemon ends kube-ipvs and shows that all goes on without it.
func (s *stage) stopDaemon(ctx context.Context) map[state.Family]*tally {
	for _, one := range s.streams {
		one.take()
	}
	stopped := s.daemon.Stop(stopTime)
	tested := each(func(ctx context.Context, f state.Family) tally {
		t := s.reach(ctx, "pod-client", "shop/web", s.shop["shop/web"].vip(f))
		t.add(s.outsideAsks(ctx, f))
		t.add(s.podAsksOverUDP(ctx, f))
		t.note("%s", t.bars())
		if one := s.streams[f]; one != nil {
			late := one.take()
			t.note("the connection to %s that was opened before: %d more requests", one.first.Server, late.asked)
			t.add(late)
		}
		return t
	})(ctx)
	if stopped != nil {
		for _, t := range tested {
			t.complain(stopped)
		}
	}
	return tested
}

// reach asks a Service until all of its endpoints have answered.
func (s *stage) reach(ctx context.Context, from, service string, to netip.AddrPort) (t tally) {
	svc := s.shop[service]
	hosts, err := s.hosts(svc, state.FamilyOf(to.Addr()))
	if err != nil {
		t.complain(err)
		return t
	}
	for t.asked < requests || !t.answeredBy(hosts) && t.asked < mostRequests {
		t.count(ask(ctx, s.world.Host(from), svc.protocol, to))
		if t.failed >= tooMany {
			break
		}
	}
	t.onlyBy(hosts)
	return t
}

// ask asks once, over a new connection.
func ask(ctx context.Context, from *world.Host, p state.Protocol, to netip.AddrPort) (world.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return from.Ask(ctx, p, to)
}

func (s *stage) nodePort(service string, f state.Family) netip.AddrPort {
	return netip.AddrPortFrom(s.world.Host("node-1").Addr(f), s.shop[service].nodePort)
}

// hosts returns the names of the hosts that are a Service's endpoints.
func (s *stage) hosts(svc *service, f state.Family) ([]string, error) {
	var names []string
	for _, e := range svc.endpoints {
		if state.FamilyOf(e.Addr()) != f {
			continue
		}
		h, err := s.hostOf(e.Addr())
		if err != nil {
			return nil, err
		}
		names = append(names, h.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the Service has no %v endpoints", f)
	}
	return names, nil
}

func (s *stage) hostOf(a netip.Addr) (*world.Host, error) {
	for _, h := range s.world.Hosts() {
		if slices.Contains(h.Addresses, a) {
			return h, nil
		}
	}
	return nil, fmt.Errorf("no host has the address %v", a)
}
