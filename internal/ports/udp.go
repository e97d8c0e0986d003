// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// datagram is the longest there is.
const datagram = 1 << 16

// listenUDP opens a port. It is served until it is closed or breaks, and its clients' sessions end with it.
func (n *Loopback) listenUDP(at netip.AddrPort, d *door) (io.Closer, func() error, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() error {
		defer n.sessions.endOf(conn)
		return n.receive(conn, d)
	}, nil
}

// receive forwards what clients send. What can't be sent on is lost, as datagrams may be.
func (n *Loopback) receive(conn *net.UDPConn, d *door) error {
	buffer := make([]byte, datagram)
	for {
		size, client, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return err
		}
		if s := n.session(dialogue{conn, client, *d.to.Load()}); s != nil {
			send(s.conn, buffer[:size])
		}
	}
}

// session is that of the client, a new one if it has none; nil if there can be none now.
func (n *Loopback) session(d dialogue) *session {
	if s := n.sessions.find(d); s != nil {
		return s
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(d.to))
	if err != nil {
		return nil
	}
	s := n.sessions.add(d, conn)
	n.running.Go(func() {
		defer n.sessions.end(s)
		n.sessions.reply(s)
	})
	return s
}

// send tries twice: the first time may only tell that an earlier datagram was refused.
func send(conn *net.UDPConn, b []byte) {
	if _, err := conn.Write(b); errors.Is(err, syscall.ECONNREFUSED) {
		_, _ = conn.Write(b)
	}
}

// buffers lets thousands of silent sessions wait without one each.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[datagram]byte {
	if x, ok := b.pool.Get().(*[datagram]byte); ok {
		return x
	}
	return new([datagram]byte)
}

func (b *buffers) put(x *[datagram]byte) { b.pool.Put(x) }
