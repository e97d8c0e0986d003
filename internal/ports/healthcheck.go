// SPDX-License-Identifier: Apache-2.0

// Package ports serves the ports of Services that no kernel table can: health check NodePorts, which load balancers ask
// (HealthChecks), and NodePorts on 127.0.0.1 and [::1] (Loopback). Retries retries what another program is in the way
// of.
//
// Package plan counts the endpoints. The proxy's own healthz is in package serve.
package ports

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// HealthCheckOptions configure HealthChecks.
type HealthCheckOptions struct {
	Healthy func() bool // the proxy is healthy; many goroutines call it, for each answer

	// Report gets the first error of a port, and nil when it is open again. It must not block or call back.
	Report func(service types.NamespacedName, port uint16, err error)
}

// HealthChecks answers for all Services. A Service's port is open on all addresses of a family or on none; if an
// address is added that fails, the port stays open on the others.
type HealthChecks struct {
	options HealthCheckOptions
	serving sync.WaitGroup

	mutex     sync.Mutex
	closed    bool
	addresses map[state.Family][]netip.Addr
	checks    map[checkKey]*check
	retries   *Retries[checkKey]
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
	h := &HealthChecks{options: o, addresses: map[state.Family][]netip.Addr{}, checks: map[checkKey]*check{}}
	report := func(k checkKey, err error) { o.Report(k.service, h.checks[k].port, err) }
	h.retries = NewRetries(RetryOptions[checkKey]{Lock: &h.mutex, Try: h.open, Report: report})
	return h
}

// Set sets the health check of a Service. The zero check ends it.
func (h *HealthChecks) Set(service types.NamespacedName, c state.HealthCheck) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.set(checkKey{service, state.IPv4}, c.Port, c.IPv4)
	h.set(checkKey{service, state.IPv6}, c.Port, c.IPv6)
}

func (h *HealthChecks) set(k checkKey, port uint16, health state.Health) {
	if h.closed || port == 0 || !health.Served {
		h.remove(k)
		return
	}
	if c := h.checks[k]; c != nil && c.port == port {
		c.answer.endpoints.Store(int64(health.Endpoints))
		return
	}
	h.remove(k)
	c := &check{port: port, answer: &answer{service: k.service, healthy: h.options.Healthy}, servers: map[netip.Addr]*checkServer{}}
	c.answer.endpoints.Store(int64(health.Endpoints))
	h.checks[k] = c
	h.retries.Now(k)
}

// remove closes a port, and retries other Services with the same port.
func (h *HealthChecks) remove(k checkKey) {
	c := h.checks[k]
	if c == nil {
		return
	}
	delete(h.checks, k)
	h.retries.Forget(k)
	c.answer.endpoints.Store(0) // for requests in progress
	c.closeBut(nil)
	h.retries.Again(func(o checkKey) bool { return o.family == k.family && h.checks[o].port == c.port })
}

// Addresses sets where ports are open, as Listening returns it. Before the first call that is nowhere.
func (h *HealthChecks) Addresses(list []netip.Addr) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		if now := ofFamily(list, f); !h.closed && !slices.Equal(now, h.addresses[f]) {
			h.addresses[f] = now
			h.move(f)
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

// move closes addresses before it opens others: 0.0.0.0 blocks all.
func (h *HealthChecks) move(f state.Family) {
	for k, c := range h.checks {
		if k.family == f {
			c.closeBut(h.addresses[f])
		}
	}
	for k := range h.checks {
		if k.family == f {
			h.retries.Now(k)
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

// open listens on all addresses where k does not listen yet, or on none of them.
func (h *HealthChecks) open(k checkKey) error {
	c := h.checks[k]
	opened := map[netip.Addr]*checkServer{}
	for _, a := range h.addresses[k.family] {
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
		h.serving.Go(func() { h.serve(k, a, s) })
	}
	return nil
}

// serve answers until s is closed. If accept(2) fails for good, for lack of memory, the port is opened again.
func (h *HealthChecks) serve(k checkKey, a netip.Addr, s *checkServer) {
	err := s.http.Serve(s.listener)
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if c := h.checks[k]; c != nil && c.servers[a] == s {
		delete(c.servers, a)
		s.close()
		h.retries.Failed(k, fmt.Errorf("serve health check port: %w", err))
	}
}

// Close frees all ports and returns when none is served.
func (h *HealthChecks) Close() {
	h.mutex.Lock()
	h.closed = true
	for k, c := range h.checks {
		h.retries.Forget(k)
		c.closeBut(nil)
	}
	clear(h.checks)
	h.mutex.Unlock()
	h.serving.Wait()
}

// Load balancers ask every few seconds, and may keep the connection open in between.
const (
	readTime  = 10 * time.Second
	writeTime = 10 * time.Second
	idleTime  = 2 * time.Minute
	headers   = 64 << 10 // bytes
)

type checkServer struct {
	listener net.Listener
	http     *http.Server
}

// listen opens a port for one family: "[::]" leaves 0.0.0.0 to others.
func listen(at netip.AddrPort, handler http.Handler) (*checkServer, error) {
	network := "tcp4"
	if state.FamilyOf(at.Addr()) == state.IPv6 {
		network = "tcp6"
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("open health check port: %w", err)
	}
	return &checkServer{listener: l, http: &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true, // else "OPTIONS *" is always 200
		ReadTimeout:                  readTime,
		WriteTimeout:                 writeTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               headers,
		ErrorLog:                     log.New(io.Discard, "", 0), // broken requests
	}}, nil
}

// close frees the port before it returns, even if Serve has not started, and cuts open connections.
func (s *checkServer) close() {
	_ = s.listener.Close()
	_ = s.http.Close()
}

// answer is what one Service's load balancer gets in one family, for any path and method.
type answer struct {
	service   types.NamespacedName
	endpoints atomic.Int64
	healthy   func() bool
}

// body has kube-proxy's keys in kube-proxy's order.
type body struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int64 `json:"localEndpoints"`
	ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
}

// ServeHTTP answers with the true number of endpoints, even if the proxy is unhealthy.
func (a *answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b := body{LocalEndpoints: a.endpoints.Load(), ServiceProxyHealthy: a.healthy()}
	b.Service.Namespace, b.Service.Name = a.service.Namespace, a.service.Name
	text, err := json.MarshalIndent(b, "", "\t")
	if err != nil {
		http.Error(w, fmt.Sprintf("write the answer: %v", err), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(b.LocalEndpoints, 10))
	if b.LocalEndpoints == 0 || !b.ServiceProxyHealthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(text) // the client may be gone
}
