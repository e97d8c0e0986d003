// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// stream is one connection that is asked over and over.
type stream struct {
	conn *world.Conn
	// first is the first answer; all others must be the same.
	first world.Reply
	stop  chan struct{}
	ended chan struct{}
	mu    sync.Mutex
	since tally
}

func openStream(ctx context.Context, from *world.Host, p state.Protocol, to netip.AddrPort) (*stream, error) {
	conn, err := from.Dial(ctx, p, to)
	if err != nil {
		return nil, err
	}
	first, err := conn.Ask(ctx)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &stream{conn: conn, first: first, stop: make(chan struct{}), ended: make(chan struct{})}, nil
}

// run asks until the stream is closed or broken.
func (s *stream) run(ctx context.Context) {
	defer close(s.ended)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.ask(ctx) {
			return
		}
	}
}

// ask asks once more and reports whether the connection still works.
func (s *stream) ask(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	reply, err := s.conn.Ask(ctx)
	if err == nil && reply != s.first {
		err = fmt.Errorf("the answer over an open connection was %v, and is %v now", s.first, reply)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since.count(reply, err)
	return err == nil
}

// take returns what happened since its last call. It complains of a stream that stands still.
func (s *stream) take() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.since
	s.since = tally{wrong: t.wrong}
	if t.asked == 0 {
		t.complain(fmt.Errorf("the connection to %s stands still", s.first.Server))
	}
	return t
}

func (s *stream) close() {
	close(s.stop)
	<-s.ended
	s.conn.Close()
}
