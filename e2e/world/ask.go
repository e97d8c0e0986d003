// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// patience is how long a question waits for its answer without a deadline.
const patience = 5 * time.Second

// Conn is a client's connection to one server; for datagrams it is a socket.
type Conn struct {
	conn net.Conn
	// stream is nil for datagrams.
	stream *bufio.Reader
}

// Dial opens a connection from this host.
func (h *Host) Dial(ctx context.Context, p state.Protocol, to netip.AddrPort) (*Conn, error) {
	return h.connect(ctx, p, to, h.dial)
}

// DialFrom is Dial from a chosen port.
func (h *Host) DialFrom(ctx context.Context, p state.Protocol, port uint16, to netip.AddrPort) (*Conn, error) {
	return h.connect(ctx, p, to, func(ctx context.Context, p state.Protocol, to netip.AddrPort) (net.Conn, error) {
		return dial(ctx, p, port, to)
	})
}

type dialer func(context.Context, state.Protocol, netip.AddrPort) (net.Conn, error)

func (h *Host) connect(ctx context.Context, p state.Protocol, to netip.AddrPort, with dialer) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var conn net.Conn
	// A literal address is dialled by the calling goroutine, as Do requires.
	err := h.Do(func() (err error) {
		conn, err = with(ctx, p, to)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial %v/%v from %s: %w", to, p, h.Name, err)
	}
	c := &Conn{conn: conn}
	if p != state.UDP {
		c.stream = bufio.NewReader(conn)
	}
	return c, nil
}

// dial takes a port that no recent connection of the host had: routers and conntrack remember connections for longer
// than their sockets live, and a test asks often enough to get the same port twice.
func (h *Host) dial(ctx context.Context, p state.Protocol, to netip.AddrPort) (net.Conn, error) {
	for range clientPorts {
		conn, err := dial(ctx, p, h.nextPort(), to)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return conn, err
		}
	}
	return nil, fmt.Errorf("all ports are in use")
}

// The client ports that Linux uses by default: the first and how many. AskFrom changes the first.
const firstClientPort, clientPorts = 32768, 28232

// AskFrom makes the host's clients take their ports from this one on.
func (h *Host) AskFrom(first uint16) { h.ports.Store(uint32(first)) }

func (h *Host) nextPort() uint16 {
	first := h.ports.Load()
	if first == 0 {
		first = firstClientPort
	}
	return uint16(first + h.used.Add(1)%clientPorts)
}

func dial(ctx context.Context, p state.Protocol, port uint16, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	switch p {
	case state.TCP:
		d.LocalAddr = &net.TCPAddr{Port: int(port)}
		return d.DialContext(ctx, "tcp", to.String())
	case state.UDP:
		d.LocalAddr = &net.UDPAddr{Port: int(port)}
		return d.DialContext(ctx, "udp", to.String())
	case state.SCTP:
		return dialSCTP(ctx, port, to)
	}
	return nil, fmt.Errorf("no client speaks %v", p)
}

// Ask asks the server at the other end for its name. It may be called again and again.
func (c *Conn) Ask(ctx context.Context) (Reply, error) { return c.AskAtLength(ctx, len("who?")) }

// AskAtLength is Ask; over UDP the question has the given size.
func (c *Conn) AskAtLength(ctx context.Context, bytes int) (Reply, error) {
	reply, err := c.ask(ctx, bytes)
	if err != nil {
		return Reply{}, fmt.Errorf("ask %v: %w", c.conn.RemoteAddr(), err)
	}
	return reply, nil
}

func (c *Conn) ask(ctx context.Context, bytes int) (Reply, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(patience)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return Reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if c.stream == nil {
		return c.askDatagram(make([]byte, bytes))
	}
	return c.askStream()
}

func (c *Conn) askStream() (Reply, error) {
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: world\r\n\r\n"); err != nil {
		return Reply{}, err
	}
	answer, err := http.ReadResponse(c.stream, nil)
	if err != nil {
		return Reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return Reply{}, err
	}
	if answer.StatusCode != http.StatusOK {
		return Reply{}, fmt.Errorf("answer %s: %s", answer.Status, text)
	}
	return ParseReply(string(text))
}

func (c *Conn) askDatagram(question []byte) (Reply, error) {
	if _, err := c.conn.Write(question); err != nil {
		return Reply{}, err
	}
	text := make([]byte, 512)
	n, err := c.conn.Read(text)
	if err != nil {
		return Reply{}, err
	}
	return ParseReply(string(text[:n]))
}

// Close closes the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Reset ends a connection over TCP at once, as a client that dies does. The kernel between client and server forgets it
// sooner than a closed one.
func (c *Conn) Reset() error {
	if stream, ok := c.conn.(*net.TCPConn); ok {
		if err := stream.SetLinger(0); err != nil {
			return err
		}
	}
	return c.conn.Close()
}

// Ask asks over a new connection.
func (h *Host) Ask(ctx context.Context, p state.Protocol, to netip.AddrPort) (Reply, error) {
	c, err := h.Dial(ctx, p, to)
	if err != nil {
		return Reply{}, err
	}
	reply, err := c.Ask(ctx)
	if err != nil {
		return Reply{}, errors.Join(fmt.Errorf("from %s: %w", h.Name, err), c.Close())
	}
	return reply, c.Close()
}
