// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// client asks a Service at one place again and again.
type client struct {
	host string
	to   netip.AddrPort
	over state.Protocol
	// keeps is whether it uses one connection, or one port, for all its questions.
	keeps bool
	// from are the pods that may answer.
	from []string
}

func (c client) String() string {
	how := "again and again"
	if c.keeps {
		how = "over one connection"
	}
	return fmt.Sprintf("%s at %v/%v %s", c.host, c.to, c.over, how)
}

// clients returns all kinds of clients, at all kinds of places, that kube-proxy and kube-ipvs both serve.
func (s *stage) clients() []client {
	var list []client
	add := func(svc rig.Service, to func(state.Family, rig.Port) netip.AddrPort, from []string, hosts ...string) {
		for _, f := range families() {
			for _, p := range svc.Ports {
				for _, host := range hosts {
					for _, keeps := range []bool{true, false} {
						list = append(list, client{host, to(f, p), p.Protocol, keeps, from})
					}
				}
			}
		}
	}
	for _, svc := range s.services {
		cluster := func(f state.Family, p rig.Port) netip.AddrPort { return netip.AddrPortFrom(svc.Address(f), p.Number) }
		lb := func(f state.Family, p rig.Port) netip.AddrPort {
			return netip.AddrPortFrom(rig.First(f, svc.LoadBalancers), p.Number)
		}
		node := func(f state.Family, p rig.Port) netip.AddrPort {
			return netip.AddrPortFrom(s.Node.Addr(f), p.NodePort)
		}
		all, local := names(svc, ""), names(svc, "node-1")
		switch svc.Name {
		case "web":
			add(svc, cluster, all, "pod-client", "pod-a", "node-1")
			if s.detects { // else the answer of another node's pod comes straight to the client
				add(svc, cluster, all, "client")
			}
			add(svc, node, all, "client", "node-1")
		case "near":
			add(svc, lb, local, "client")
			if s.detects {
				add(svc, lb, all, "pod-client", "node-1", "node-1", "node-1", "node-1", "node-1", "node-1")
			}
		case "far":
			if s.detects {
				add(svc, lb, all, "pod-client", "node-1")
			}
		case "wide":
			add(svc, lb, all, "pod-client", "node-1", "client")
		case "sticky":
			add(svc, cluster, all, "pod-client", "node-1")
		}
	}
	return list
}

func names(svc rig.Service, node string) []string {
	var list []string
	for _, name := range []string{"pod-a", "pod-b", "pod-c", "pod-d"} {
		p := rig.Pod(name)
		if slices.ContainsFunc(svc.Endpoints, func(e rig.Endpoint) bool { return e.Addresses[0] == p.Addresses[0] }) && (node == "" || p.Node == node) {
			list = append(list, name)
		}
	}
	return list
}

// load is clients at work.
type load struct {
	stop    context.CancelFunc
	clients sync.WaitGroup
	pauses  time.Duration

	mu     sync.Mutex
	asked  map[string]int // by client
	failed []string
	moved  map[string]int // answers of one connection that came from another endpoint than its first
}

func (s *stage) startLoad(t *testing.T, clients []client) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop, pauses: 20 * time.Millisecond, asked: map[string]int{}, moved: map[string]int{}}
	for _, c := range clients {
		l.asked[c.String()] = 0
		l.clients.Go(func() { l.run(ctx, s.World.Host(c.host), c) })
	}
	t.Cleanup(l.clients.Wait)
	t.Cleanup(stop)
	l.more(t, 3)
	return l
}

func (l *load) run(ctx context.Context, host *world.Host, c client) {
	var conn *world.Conn
	var first string
	for ctx.Err() == nil {
		var reply world.Reply
		var err error
		switch {
		case !c.keeps:
			reply, err = host.Ask(context.Background(), c.over, c.to)
		case conn == nil:
			if conn, err = host.Dial(context.Background(), c.over, c.to); err == nil {
				defer conn.Close()
				reply, err = conn.Ask(context.Background())
			}
			first = reply.Server
		default:
			reply, err = conn.Ask(context.Background())
		}
		l.count(c, reply, first, err)
		if err != nil && c.keeps {
			return // a connection that is lost stays lost
		}
		time.Sleep(l.pauses)
	}
}

func (l *load) count(c client, reply world.Reply, first string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[c.String()]++
	switch {
	case err != nil:
		l.failed = append(l.failed, fmt.Sprintf("%v: question %d: %v", c, l.asked[c.String()], err))
	case !slices.Contains(c.from, reply.Server):
		l.failed = append(l.failed, fmt.Sprintf("%v: question %d: %s answered, which is none of %v", c, l.asked[c.String()], reply.Server, c.from))
	case c.keeps && reply.Server != first:
		l.moved[c.String()]++
	}
}

// more waits until every client has asked so many more questions, or one has failed.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	before := maps.Clone(l.asked)
	l.mu.Unlock()
	rig.Until(t, 2*rig.Patience, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.failed) > 0 {
			return nil
		}
		for c, asked := range l.asked {
			if asked-before[c] < n {
				return fmt.Errorf("%s asked %d more questions, want %d", c, asked-before[c], n)
			}
		}
		return nil
	})
}

// end ends all clients and fails the test if a question failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.clients.Wait()
	total := 0
	for _, n := range l.asked {
		total += n
	}
	const most = 20
	for i, f := range l.failed {
		if i == most {
			t.Errorf("and %d more", len(l.failed)-most)
			break
		}
		t.Error(f)
	}
	for c, n := range l.moved {
		t.Errorf("%s: %d answers came from another endpoint than the first", c, n)
	}
	t.Logf("%d clients asked %d questions, %d were not answered", len(l.asked), total, len(l.failed))
}
