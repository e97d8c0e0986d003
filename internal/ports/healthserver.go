// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Load balancers ask every few seconds, and may keep the connection open in between.
const (
	readTime  = 10 * time.Second
	writeTime = 10 * time.Second
	idleTime  = 2 * time.Minute
	headers   = 64 << 10 // bytes
)

// checkServer answers at one address and port.
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
		ErrorLog:                     log.New(io.Discard, "", 0), // broken requests of strangers
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
