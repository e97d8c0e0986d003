// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ring is several API servers, of which one is used as long as its connections last. Whatever ends one, the
// next is made to the server after it: a server that is about to stop says so by ending its connections, and
// to move on when there was no need costs nothing.
type ring struct {
	servers []netip.AddrPort
	dialer  net.Dialer
	answer  time.Duration // for the first byte of a server, once connected

	mutex   sync.Mutex
	current int
	open    map[*conn]bool
	sick    int // answers in a row that say that the server is
}

const (
	// connectTime is for one address. Those that are on, far away or not, answer in a fraction of that.
	connectTime = 3 * time.Second
	// answerTime is for the first byte in TLS: what takes connections but does not answer is no server.
	answerTime = 5 * time.Second
	// deadTime is how long what was sent may stay unacknowledged. The kernel's own limit is some 15 minutes.
	deadTime = 15 * time.Second
	// sickAnswers is after how many answers in a row that say that a server can't serve another one is tried.
	sickAnswers = 3
)

func newRing(servers []netip.AddrPort, first int) *ring {
	return &ring{
		servers: servers,
		current: first,
		dialer: net.Dialer{
			Timeout:         connectTime,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
			Control:         giveUpEarly,
		},
		answer: answerTime,
		open:   map[*conn]bool{},
	}
}

// giveUpEarly makes the kernel notice soon that a server is gone without a word.
func giveUpEarly(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadTime.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// dial connects to the first server that takes the connection, whatever the address that is asked for.
func (r *ring) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r.mutex.Lock()
	first := r.current
	r.mutex.Unlock()
	var errs []error
	for i := range r.servers {
		n := (first + i) % len(r.servers)
		raw, err := r.dialer.DialContext(ctx, "tcp", r.servers[n].String())
		if err == nil {
			return r.opened(raw, n)
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("connect to an API server: %w", errors.Join(errs...))
}

func (r *ring) opened(raw net.Conn, n int) (net.Conn, error) {
	if err := raw.SetReadDeadline(time.Now().Add(r.answer)); err != nil {
		return nil, errors.Join(fmt.Errorf("bound the wait for API server %v: %w", r.servers[n], err), raw.Close())
	}
	c := &conn{Conn: raw, ring: r, server: n}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.current = n
	r.open[c] = true
	return c, nil
}

func (r *ring) ended(c *conn) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.open, c)
	if r.current == c.server {
		r.current = (c.server + 1) % len(r.servers)
		r.sick = 0
	}
}

// answered takes in the status of an answer, and leaves a server that can't serve: an API server whose etcd
// is away still takes connections.
func (r *ring) answered(status int) {
	var leave []*conn
	r.mutex.Lock()
	if r.sick++; status < http.StatusInternalServerError {
		r.sick = 0
	}
	if r.sick >= sickAnswers {
		for c := range r.open {
			leave = append(leave, c)
		}
	}
	r.mutex.Unlock()
	for _, c := range leave {
		_ = c.Close() // for whoever reads from it, that is the error
	}
}

// conn is a connection to one of the servers.
type conn struct {
	net.Conn
	ring   *ring
	server int
	first  sync.Once // something was read
	last   sync.Once // it was closed
}

// Read lifts the bound on the wait for the first byte.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.first.Do(func() { _ = c.SetReadDeadline(time.Time{}) }) // on a closed one the next read says so
	}
	return n, err
}

// Close tells the ring.
func (c *conn) Close() error {
	c.last.Do(func() { c.ring.ended(c) })
	return c.Conn.Close()
}
