// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// dialTime is how long a Service may take to accept a connection.
const dialTime = 30 * time.Second

// listenTCP opens a port. It is served until it is closed or breaks.
func (n *Loopback) listenTCP(at netip.AddrPort, p *nodePort) (io.Closer, func() error, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	return l, func() error { return n.accept(l, p) }, nil
}

func (n *Loopback) accept(l *net.TCPListener, p *nodePort) error {
	for {
		client, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		if n.connections.Add(1) > int64(n.options.Connections) {
			n.connections.Add(-1)
			reset(client)
			continue
		}
		n.running.Go(func() {
			defer n.connections.Add(-1)
			n.connect(client, *p.to.Load())
		})
	}
}

// connect connects the client to the Service. If that fails, the client gets a reset, as from the Service.
func (n *Loopback) connect(client *net.TCPConn, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		reset(client)
		return
	}
	n.join(client, conn.(*net.TCPConn))
}

// join forwards both ways until both have ended, however long they are silent.
func (n *Loopback) join(client, service *net.TCPConn) {
	cut := context.AfterFunc(n.ctx, func() {
		reset(client)
		reset(service)
	})
	defer cut()
	defer client.Close()
	defer service.Close()
	var up sync.WaitGroup
	up.Go(func() { pass(service, client) })
	pass(client, service)
	up.Wait()
}

// pass forwards one way, in the kernel: between two TCP connections io.Copy uses splice(2). It passes on the
// end of a stream, and a reset.
func pass(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		reset(to)
		reset(from)
	}
}

// reset closes a connection so that the peer cannot take it for the regular end of the stream.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
