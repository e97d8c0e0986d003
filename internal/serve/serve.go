// SPDX-License-Identifier: Apache-2.0

// Package serve answers HTTP for others who read how this node is: /healthz and /livez, /metrics, and the
// pages that every Kubernetes component has. It opens the ports, tries again where it can't, and bounds what
// one client can cost.
//
// The ports of Services are in package ports. What is measured is in package metrics.
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
	// again is the longest time from one try to listen to the next: kube-proxy's.
	again = 5 * time.Second

	readTime  = 10 * time.Second
	writeTime = 30 * time.Second // a profile takes its own time
	idleTime  = 2 * time.Minute
	farewell  = 2 * time.Second // for answers that are being written when a Server closes
	headers   = 64 << 10        // bytes
)

// Options say what is served where.
type Options struct {
	What  string // "healthz", "metrics": for errors
	At    netip.AddrPort
	Pages http.Handler

	// HardFail makes Start fail if it can't listen at once. It tries again if not.
	HardFail bool

	// Report is told why nobody is served, once until somebody is, and nil then. It must neither block nor
	// call the Server. nil: nobody is told.
	Report func(error)
}

// Server answers at one address.
type Server struct {
	options   Options
	serving   sync.WaitGroup
	answering sync.WaitGroup // handlers at work

	mutex    sync.Mutex
	closed   bool
	over     bool // no handler may begin any more
	http     *http.Server
	listener net.Listener
	tries    *ports.Retries[netip.AddrPort]
}

// Start serves from now on, or as soon as it can.
func Start(o Options) (*Server, error) {
	if o.Report == nil {
		o.Report = func(error) {}
	}
	s := &Server{options: o}
	s.tries = ports.NewRetries(ports.RetryOptions[netip.AddrPort]{
		Lock: &s.mutex, Longest: again,
		Try:    func(netip.AddrPort) error { return s.listen() },
		Report: func(_ netip.AddrPort, err error) { o.Report(err) },
	})
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !o.HardFail {
		s.tries.Now(o.At)
		return s, nil
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

// listen opens the port. The unspecified address of either family is both, as for kube-proxy: a kubelet asks
// a pod on the node's network by any of its addresses.
func (s *Server) listen() error {
	l, err := net.Listen("tcp", s.options.At.String())
	if err != nil {
		return fmt.Errorf("opening port of %s: %w", s.options.What, err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		ReadHeaderTimeout: readTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headers,
		ErrorLog:          log.New(io.Discard, "", 0), // strangers' broken requests
	}
	s.http, s.listener = server, l
	s.serving.Go(func() { s.serve(server, l) })
	return nil
}

// serve answers until it is closed. It can also break, when accept(2) fails for good, and then the port is
// opened anew.
func (s *Server) serve(server *http.Server, l net.Listener) {
	err := server.Serve(l)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		return
	}
	s.free()
	s.tries.Failed(s.options.At, fmt.Errorf("serving %s: %w", s.options.What, err))
}

// free closes what is open.
func (s *Server) free() {
	if s.http != nil {
		_ = s.listener.Close() // also if nobody serves it yet
		_ = s.http.Close()
	}
	s.http, s.listener = nil, nil
}

// Addr is where the server listens, not valid if it does not.
func (s *Server) Addr() netip.AddrPort {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.listener == nil {
		return netip.AddrPort{}
	}
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Close frees the port. Who has asked gets an answer, but not for long, and when it returns no handler is at
// work any more: what handlers read can be closed then.
func (s *Server) Close() {
	s.mutex.Lock()
	s.closed = true
	s.tries.Forget(s.options.At)
	server, listener := s.http, s.listener
	s.http, s.listener = nil, nil
	s.mutex.Unlock()
	if server != nil {
		_ = listener.Close() // also if nobody serves it yet
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		_ = server.Shutdown(ctx)
		cancel()
		_ = server.Close() // of those who read too slowly, or ask for what takes long
	}
	s.serving.Wait()
	s.mutex.Lock()
	s.over = true
	s.mutex.Unlock()
	s.answering.Wait()
}

// answer counts the handlers that are at work: http.Server waits for none of them once it has closed their
// connections.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	over := s.over
	if !over {
		s.answering.Add(1)
	}
	s.mutex.Unlock()
	if over {
		return
	}
	defer s.answering.Done()
	s.options.Pages.ServeHTTP(w, r)
}
