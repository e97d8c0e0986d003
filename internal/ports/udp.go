// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"cmp"
	"container/list"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// datagram is the maximum size of a datagram.
const datagram = 1 << 16

// listenUDP opens a port. It is served until it is closed or breaks, and its clients' sessions end with it.
func (n *Loopback) listenUDP(at netip.AddrPort, p *nodePort) (io.Closer, func() error, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() error {
		defer n.sessions.endOf(conn)
		return n.receive(conn, p)
	}, nil
}

// receive forwards what clients send. What cannot be sent on is lost, as with any datagram.
func (n *Loopback) receive(conn *net.UDPConn, p *nodePort) error {
	buffer := make([]byte, datagram)
	for {
		size, client, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return err
		}
		if s := n.session(flow{conn, client, *p.to.Load()}); s != nil {
			send(s.conn, buffer[:size])
		}
	}
}

// session returns the session of a flow, a new one if needed, or nil if that fails.
func (n *Loopback) session(f flow) *session {
	if s := n.sessions.find(f); s != nil {
		return s
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(f.to))
	if err != nil {
		return nil
	}
	s := n.sessions.add(f, conn)
	n.running.Go(func() {
		defer n.sessions.end(s)
		n.sessions.reply(s)
	})
	return s
}

// send tries twice: the first error may only report that an earlier datagram was refused.
func send(conn *net.UDPConn, b []byte) {
	if _, err := conn.Write(b); errors.Is(err, syscall.ECONNREFUSED) {
		_, _ = conn.Write(b)
	}
}

// flow is a client that talks to a Service through one of our ports, at the Service's present address.
type flow struct {
	port   *net.UDPConn
	client netip.AddrPort
	to     netip.AddrPort
}

// session is a flow with the socket that talks to the Service.
type session struct {
	flow flow
	conn *net.UDPConn
	used time.Time
}

// sessions are those of all ports, at most limit.
type sessions struct {
	limit   int
	idle    time.Duration
	buffers sync.Pool // thousands of silent sessions wait without a buffer each

	mutex sync.Mutex
	open  map[flow]*list.Element
	order *list.List // of *session; longest idle first
}

func newSessions(limit int, idle time.Duration) *sessions {
	return &sessions{
		limit: limit, idle: idle, open: map[flow]*list.Element{}, order: list.New(),
		buffers: sync.Pool{New: func() any { return new([datagram]byte) }},
	}
}

// find returns the session of f, or nil, and marks it as used.
func (t *sessions) find(f flow) *session {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if e := t.open[f]; e != nil {
		return t.touch(e)
	}
	return nil
}

func (t *sessions) touch(e *list.Element) *session {
	s := e.Value.(*session)
	s.used = time.Now()
	t.order.MoveToBack(e)
	return s
}

// add adds a session. If there are too many, the longest idle one ends: an active client waits for an answer.
func (t *sessions) add(f flow, conn *net.UDPConn) *session {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for t.order.Len() >= t.limit {
		t.remove(t.order.Front())
	}
	s := &session{flow: f, conn: conn, used: time.Now()}
	t.open[f] = t.order.PushBack(s)
	return s
}

// element returns the element of s, or nil if s has ended.
func (t *sessions) element(s *session) *list.Element {
	if e := t.open[s.flow]; e != nil && e.Value == s {
		return e
	}
	return nil
}

// remove closes the socket, which also ends the goroutine that waits for replies.
func (t *sessions) remove(e *list.Element) {
	s := t.order.Remove(e).(*session)
	delete(t.open, s.flow)
	_ = s.conn.Close()
}

func (t *sessions) end(s *session) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if e := t.element(s); e != nil {
		t.remove(e)
	}
}

func (t *sessions) endOf(port *net.UDPConn) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for f, e := range t.open {
		if f.port == port {
			t.remove(e)
		}
	}
}

// reply sends the Service's answers to the client until the session is idle for too long or ended.
func (t *sessions) reply(s *session) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	for t.alive(s) {
		err := t.relay(s, raw)
		if err != nil && !isTemporary(err) {
			return
		}
	}
}

// isTemporary reports whether answers may follow: an earlier datagram was refused, or alive must be checked.
func isTemporary(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINTR) || errors.Is(err, os.ErrDeadlineExceeded)
}

// alive ends s if it was idle for too long, and otherwise sets the time of the next check. find takes the same lock, so
// that no datagram is sent on a session that just ends.
func (t *sessions) alive(s *session) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	e := t.element(s)
	if e == nil {
		return false
	}
	end := s.used.Add(t.idle)
	if !time.Now().Before(end) {
		t.remove(e)
		return false
	}
	return s.conn.SetReadDeadline(end) == nil
}

// relay passes on one answer. It takes no lock inside Read: closing the socket waits for Read, under a lock.
func (t *sessions) relay(s *session, raw syscall.RawConn) error {
	var buffer *[datagram]byte
	var size int
	var failed error
	waited := raw.Read(func(fd uintptr) bool {
		buffer = t.buffers.Get().(*[datagram]byte)
		if size, failed = syscall.Read(int(fd), buffer[:]); failed != nil {
			t.buffers.Put(buffer)
		}
		return !errors.Is(failed, syscall.EAGAIN)
	})
	if err := cmp.Or(waited, failed); err != nil {
		return err
	}
	defer t.buffers.Put(buffer)
	t.used(s)
	_, _ = s.flow.port.WriteToUDPAddrPort(buffer[:size], s.flow.client)
	return nil
}

func (t *sessions) used(s *session) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if e := t.element(s); e != nil {
		t.touch(e)
	}
}
