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

// ring is several API servers. It uses one as long as its connections last, then the next: a server that is
// about to stop ends its connections, and an unnecessary move costs nothing.
type ring struct {
	servers []netip.AddrPort
	dialer  net.Dialer
	answer  time.Duration // wait for the first byte of a server, once connected

	mutex   sync.Mutex
	current int
	open    map[*conn]bool
	sick    int // number of answers in a row with a server error
}

const (
	// connectTime is for one address. Servers that run answer in a fraction of that.
	connectTime = 3 * time.Second
	// answerTime is for the first byte in TLS. A server that accepts but does not answer is not used.
	answerTime = 5 * time.Second
	// deadTime is how long sent bytes may stay unacknowledged. The kernel's own limit is some 15 minutes.
	deadTime = 15 * time.Second
	// sickAnswers is after how many errors in a row another server is tried.
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

// giveUpEarly makes the kernel detect a dead server soon.
func giveUpEarly(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadTime.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// dial connects to the first server that accepts, whatever address is requested.
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

// answered leaves a server that fails: an API server whose etcd is away still accepts connections.
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
		_ = c.Close() // readers get an error
	}
}

type conn struct {
	net.Conn
	ring   *ring
	server int
	first  sync.Once // after the first byte
	last   sync.Once // after Close
}

// Read lifts the deadline after the first byte.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.first.Do(func() { _ = c.SetReadDeadline(time.Time{}) }) // if it is closed, the next read fails
	}
	return n, err
}

// Close notifies the ring.
func (c *conn) Close() error {
	c.last.Do(func() { c.ring.ended(c) })
	return c.Conn.Close()
}
