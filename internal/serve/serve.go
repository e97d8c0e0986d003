// SPDX-License-Identifier: Apache-2.0

// Package serve serves the HTTP endpoints of this node: /healthz and /livez (Health), /metrics, and the pages that
// every Kubernetes component has (Pages). A Server opens a port, retries if it cannot, and limits what one client can
// cost.
//
// Ports of Services are in package ports, metrics in package metrics.
package serve

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/ports"
)

const (
	// again is the longest time between two tries to listen, as in kube-proxy.
	again = 5 * time.Second

	readTime  = 10 * time.Second
	writeTime = 30 * time.Second // a profile takes its time
	idleTime  = 2 * time.Minute
	farewell  = 2 * time.Second // for answers in progress when a Server closes
	headers   = 64 << 10        // bytes
)

// Options configure a Server.
type Options struct {
	What     string // "healthz", "metrics": for errors
	At       netip.AddrPort
	Pages    http.Handler
	HardFail bool // Start fails if it cannot listen at once; otherwise it retries

	// Report gets the first error, and nil when it works again. It must not block or call back. May be nil.
	Report func(error)
}

// Server answers at one address.
type Server struct {
	options   Options
	serving   sync.WaitGroup
	answering sync.WaitGroup // running handlers

	mutex    sync.Mutex
	closed   bool
	over     bool // no handler may start any more
	http     *http.Server
	listener net.Listener
	retries  *ports.Retries[netip.AddrPort]
}

// Start serves from now on, or as soon as it can.
func Start(o Options) (*Server, error) {
	if o.Report == nil {
		o.Report = func(error) {}
	}
	s := &Server{options: o}
	s.retries = ports.NewRetries(ports.RetryOptions[netip.AddrPort]{
		Lock: &s.mutex, Longest: again,
		Try:    func(netip.AddrPort) error { return s.listen() },
		Report: func(_ netip.AddrPort, err error) { o.Report(err) },
	})
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !o.HardFail {
		s.retries.Now(o.At)
		return s, nil
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

// listen opens the port. The unspecified address of either family means both, as in kube-proxy.
func (s *Server) listen() error {
	l, err := net.Listen("tcp", s.options.At.String())
	if err != nil {
		return fmt.Errorf("open port of %s: %w", s.options.What, err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		ReadHeaderTimeout: readTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headers,
		ErrorLog:          log.New(io.Discard, "", 0), // broken requests
	}
	s.http, s.listener = server, l
	s.serving.Go(func() { s.serve(server, l) })
	return nil
}

// serve answers until the Server is closed. If accept(2) fails for good, the port is opened again.
func (s *Server) serve(server *http.Server, l net.Listener) {
	err := server.Serve(l)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		return
	}
	_ = l.Close()
	_ = server.Close()
	s.http, s.listener = nil, nil
	s.retries.Failed(s.options.At, fmt.Errorf("serve %s: %w", s.options.What, err))
}

// Close frees the port. Quick requests in progress get an answer. When it returns no handler runs.
func (s *Server) Close() {
	s.mutex.Lock()
	s.closed = true
	s.retries.Forget(s.options.At)
	server, listener := s.http, s.listener
	s.http, s.listener = nil, nil
	s.mutex.Unlock()
	if server != nil {
		_ = listener.Close() // Serve may not have started
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		_ = server.Shutdown(ctx)
		cancel()
		_ = server.Close() // slow readers and long requests
	}
	s.serving.Wait()
	s.mutex.Lock()
	s.over = true
	s.mutex.Unlock()
	s.answering.Wait()
}

// answer counts running handlers: http.Server does not wait for them after it closed their connections.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	if s.over {
		s.mutex.Unlock()
		return
	}
	s.answering.Add(1)
	s.mutex.Unlock()
	defer s.answering.Done()
	s.options.Pages.ServeHTTP(w, r)
}
