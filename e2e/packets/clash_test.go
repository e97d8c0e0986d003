// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// lostAfter is longer than a lost packet takes that is sent again.
const lostAfter = 1500 * time.Millisecond

// from opens a TCP connection from a port that another connection uses as well.
func (s *stage) from(client string, port int, to netip.AddrPort) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: lostAfter, KeepAlive: -1, LocalAddr: &net.TCPAddr{Port: port}}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(err, failed)
	}
	err = s.World.Host(client).Do(func() error {
		conn, err = d.DialContext(context.Background(), "tcp4", to.String())
		return err
	})
	return conn, err
}

// ask asks over a connection.
func ask(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(lostAfter)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: world\r\n\r\n"); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 512))
	return err
}

// IPVS identifies a connection by its client and its endpoint, not by the frontend. What happens to two connections
// from one client port is not guaranteed, but docs/services.md describes it with the figures of this test: it fails if
// they change.
func TestOneClientPortToOneEndpointByTwoFrontends(t *testing.T) {
	s := newStage(t, podsByAddress)
	one, same, other := service(1, "one", rig.Pod("pod-a")), service(2, "same", rig.Pod("pod-a")), service(3, "other", rig.Pod("pod-b"))
	s.offer(t, one, same, other)
	const questions = 3
	for n, c := range []struct {
		client        string
		second        rig.Service
		first, latter int // answers of questions
	}{
		{"pod-client", same, 0, questions},
		{"client", same, 0, questions},
		{"node-1", same, questions, questions},
		{"pod-client", other, questions, questions},
		{"client", other, questions, questions},
	} {
		port := 41000 + n
		var held []net.Conn
		for _, svc := range []rig.Service{one, c.second} {
			conn, err := s.from(c.client, port, frontends().clusterIP.at(s, svc, state.IPv4, state.TCP))
			if err != nil {
				t.Fatalf("%s at %s: %v", c.client, svc.Name, err)
			}
			t.Cleanup(func() { conn.Close() })
			if err := ask(conn); err != nil {
				t.Fatalf("%s at %s, at once: %v", c.client, svc.Name, err)
			}
			held = append(held, conn)
		}
		var got [2]int
		for range questions {
			for i, conn := range held {
				if ask(conn) == nil {
					got[i]++
				}
			}
		}
		t.Logf("%s, then another connection from its port by %s: the first was answered %d, the second %d of %d times",
			c.client, c.second.Name, got[0], got[1], questions)
		if got != [2]int{c.first, c.latter} {
			t.Errorf("%s, second by %s: %v answers, want %d and %d", c.client, c.second.Name, got, c.first, c.latter)
		}
	}
}
