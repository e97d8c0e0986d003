// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Load balancers ask every few seconds; those that keep the connection open meanwhile may.
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

// listen opens a port, of this family only: "[::]" leaves 0.0.0.0 to others.
func listen(at netip.AddrPort, handler http.Handler) (*checkServer, error) {
	network := "tcp4"
	if state.FamilyOf(at.Addr()) == state.IPv6 {
		network = "tcp6"
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("opening health check port: %w", err)
	}
	return &checkServer{listener: l, http: &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true, // else "OPTIONS *" is always 200
		ReadTimeout:                  readTime,
		WriteTimeout:                 writeTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               headers,
		ErrorLog:                     log.New(io.Discard, "", 0), // strangers' broken requests
	}}, nil
}

// close frees the port before it returns, also if nobody serves it yet, and ends what is being asked.
func (s *checkServer) close() {
	_ = s.listener.Close()
	_ = s.http.Close()
}
