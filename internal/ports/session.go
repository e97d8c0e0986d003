// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"cmp"
	"container/list"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// dialogue is who talks to whom, and on which of our sockets the client hears the answers. A Service whose
// address changes begins new ones.
type dialogue struct {
	door   *net.UDPConn
	client netip.AddrPort
	to     netip.AddrPort
}

// session is a dialogue with the socket that is the client towards the Service.
type session struct {
	dialogue dialogue
	conn     *net.UDPConn
	used     time.Time
}

// sessions are those of all ports, at most limit.
type sessions struct {
	limit   int
	idle    time.Duration
	buffers buffers

	mutex sync.Mutex
	open  map[dialogue]*list.Element
	order *list.List // of *session; the longest idle one in front
}

func newSessions(limit int, idle time.Duration) *sessions {
	return &sessions{limit: limit, idle: idle, open: map[dialogue]*list.Element{}, order: list.New()}
}

// find returns the session of d, or nil. It counts as used.
func (t *sessions) find(d dialogue) *session {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	e := t.open[d]
	if e == nil {
		return nil
	}
	return t.touch(e)
}

func (t *sessions) touch(e *list.Element) *session {
	s := e.Value.(*session)
	s.used = time.Now()
	t.order.MoveToBack(e)
	return s
}

// add takes in a new session, in place of the longest idle one if there are too many: a client that just sent
// something waits for an answer.
func (t *sessions) add(d dialogue, conn *net.UDPConn) *session {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for t.order.Len() >= t.limit {
		t.remove(t.order.Front())
	}
	s := &session{dialogue: d, conn: conn, used: time.Now()}
	t.open[d] = t.order.PushBack(s)
	return s
}

// remove wakes the goroutine that waits for replies, and so ends it.
func (t *sessions) remove(e *list.Element) {
	s := t.order.Remove(e).(*session)
	delete(t.open, s.dialogue)
	_ = s.conn.Close()
}

func (t *sessions) end(s *session) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if e := t.open[s.dialogue]; e != nil && e.Value == s {
		t.remove(e)
	}
}

// endOf ends all sessions whose clients sent to door.
func (t *sessions) endOf(door *net.UDPConn) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for d, e := range t.open {
		if d.door == door {
			t.remove(e)
		}
	}
}

// reply sends the Service's answers to the client until the session was idle for too long or is ended.
func (t *sessions) reply(s *session) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	for t.alive(s) {
		err := t.relay(s, raw)
		if err != nil && !passing(err) {
			return
		}
	}
}

// passing is an error after which there may be answers: an earlier datagram was refused, or it is time to see
// whether the session is alive.
func passing(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINTR) || errors.Is(err, os.ErrDeadlineExceeded)
}

// alive ends s if it is idle for too long, and else says when to ask again. An idle session is ended under
// the same lock under which find uses one, so nobody sends on one that just ends.
func (t *sessions) alive(s *session) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	e := t.open[s.dialogue]
	if e == nil || e.Value != s {
		return false
	}
	end := s.used.Add(t.idle)
	if !time.Now().Before(end) {
		t.remove(e)
		return false
	}
	return s.conn.SetReadDeadline(end) == nil
}

// relay waits for one answer and passes it on. Inside Read it takes no lock: whoever closes the socket holds
// one and waits for Read to end.
func (t *sessions) relay(s *session, raw syscall.RawConn) error {
	var buffer *[datagram]byte
	var size int
	var failed error
	waited := raw.Read(func(fd uintptr) bool {
		buffer = t.buffers.get()
		if size, failed = syscall.Read(int(fd), buffer[:]); failed != nil {
			t.buffers.put(buffer)
		}
		return !errors.Is(failed, syscall.EAGAIN)
	})
	if err := cmp.Or(waited, failed); err != nil {
		return err
	}
	defer t.buffers.put(buffer)
	t.used(s)
	_, _ = s.dialogue.door.WriteToUDPAddrPort(buffer[:size], s.dialogue.client)
	return nil
}

func (t *sessions) used(s *session) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if e := t.open[s.dialogue]; e != nil && e.Value == s {
		t.touch(e)
	}
}
