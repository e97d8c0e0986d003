// SPDX-License-Identifier: Apache-2.0

// Package ports serves the ports of Services that no kernel table can: the healthCheckNodePorts at which load
// balancers ask, and NodePorts on 127.0.0.1 and [::1]. It opens them, and tries again where another program
// is in the way.
//
// How many endpoints count is decided in plan. The proxy's own healthz is in package serve.
package ports

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// HealthCheckOptions say what HealthChecks asks and tells its user.
type HealthCheckOptions struct {
	// Healthy says whether the proxy is. It is asked for each answer, by many goroutines.
	Healthy func() bool
	// Report is told why a Service's port can't be opened, once until it can, and nil then. It must neither
	// block nor call HealthChecks.
	Report func(service types.NamespacedName, port uint16, err error)
}

// HealthChecks answers for all Services. Every Service's port is open on all addresses of a family or on
// none; only if one of these is new to the node, the port stays open on the others.
type HealthChecks struct {
	options HealthCheckOptions
	serving sync.WaitGroup

	mutex     sync.Mutex
	closed    bool
	addresses map[state.Family][]netip.Addr
	checks    map[checkKey]*check
	tries     *Retries[checkKey]
}

type checkKey struct {
	service types.NamespacedName
	family  state.Family
}

// check is the port of one Service in one family.
type check struct {
	port    uint16
	answer  *answer
	servers map[netip.Addr]*checkServer
}

// NewHealthChecks returns HealthChecks that answer on no address yet.
func NewHealthChecks(o HealthCheckOptions) *HealthChecks {
	n := &HealthChecks{options: o, addresses: map[state.Family][]netip.Addr{}, checks: map[checkKey]*check{}}
	n.tries = NewRetries(RetryOptions[checkKey]{Lock: &n.mutex, Try: n.open, Report: n.report})
	return n
}

func (n *HealthChecks) report(k checkKey, err error) {
	n.options.Report(k.service, n.checks[k].port, err)
}

// Set takes in what a Service's load balancer is to be told. With the zero check it may not ask any more.
func (n *HealthChecks) Set(service types.NamespacedName, c state.HealthCheck) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.set(checkKey{service, state.IPv4}, c.Port, c.IPv4)
	n.set(checkKey{service, state.IPv6}, c.Port, c.IPv6)
}

func (n *HealthChecks) set(k checkKey, port uint16, h state.Health) {
	if n.closed || port == 0 || !h.Served {
		n.remove(k)
		return
	}
	if c := n.checks[k]; c != nil && c.port == port {
		c.answer.endpoints.Store(int64(h.Endpoints))
		return
	}
	n.remove(k)
	c := &check{port: port, answer: &answer{service: k.service, healthy: n.options.Healthy}, servers: map[netip.Addr]*checkServer{}}
	c.answer.endpoints.Store(int64(h.Endpoints))
	n.checks[k] = c
	n.tries.Now(k)
}

// remove lets those have the port who want it too.
func (n *HealthChecks) remove(k checkKey) {
	c := n.checks[k]
	if c == nil {
		return
	}
	delete(n.checks, k)
	n.tries.Forget(k)
	c.answer.endpoints.Store(0) // for those who are asking just now
	c.closeBut(nil)
	n.tries.Again(func(o checkKey) bool { return o.family == k.family && n.checks[o].port == c.port })
}

// Addresses takes in where the ports are open, as Listening tells; 0.0.0.0 and :: are all addresses of the
// family. Before the first call there is none.
func (n *HealthChecks) Addresses(list []netip.Addr) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		if now := ofFamily(list, f); !n.closed && !slices.Equal(now, n.addresses[f]) {
			n.addresses[f] = now
			n.move(f)
		}
	}
}

func ofFamily(list []netip.Addr, f state.Family) []netip.Addr {
	if slices.Contains(list, f.Unspecified()) {
		return []netip.Addr{f.Unspecified()}
	}
	mine := slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return state.FamilyOf(a) != f })
	slices.SortFunc(mine, netip.Addr.Compare)
	return slices.Compact(mine)
}

// move leaves addresses before it takes new ones: 0.0.0.0 is in the way of all.
func (n *HealthChecks) move(f state.Family) {
	for k, c := range n.checks {
		if k.family == f {
			c.closeBut(n.addresses[f])
		}
	}
	for k := range n.checks {
		if k.family == f {
			n.tries.Now(k)
		}
	}
}

func (c *check) closeBut(stay []netip.Addr) {
	for a, s := range c.servers {
		if !slices.Contains(stay, a) {
			delete(c.servers, a)
			s.close()
		}
	}
}

// open listens on all addresses where k does not yet, or on none of them.
func (n *HealthChecks) open(k checkKey) error {
	c := n.checks[k]
	opened := map[netip.Addr]*checkServer{}
	for _, a := range n.addresses[k.family] {
		if c.servers[a] != nil {
			continue
		}
		s, err := listen(netip.AddrPortFrom(a, c.port), c.answer)
		if err != nil {
			for _, s := range opened {
				s.close()
			}
			return err
		}
		opened[a] = s
	}
	for a, s := range opened {
		c.servers[a] = s
		n.serving.Go(func() { n.serve(k, a, s) })
	}
	return nil
}

// serve answers until s is closed. It can also break: when memory is short, accept(2) fails for good, and
// then the port is opened anew.
func (n *HealthChecks) serve(k checkKey, a netip.Addr, s *checkServer) {
	err := s.http.Serve(s.listener)
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if c := n.checks[k]; c != nil && c.servers[a] == s {
		delete(c.servers, a)
		s.close()
		n.tries.Failed(k, fmt.Errorf("serving health check port: %w", err))
	}
}

// Close frees all ports and returns when nobody serves them any more.
func (n *HealthChecks) Close() {
	n.mutex.Lock()
	n.closed = true
	for k, c := range n.checks {
		n.tries.Forget(k)
		c.closeBut(nil)
	}
	clear(n.checks)
	n.mutex.Unlock()
	n.serving.Wait()
}
