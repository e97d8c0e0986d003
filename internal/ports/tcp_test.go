// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// serveTCP serves a Service until the test ends.
func serveTCP(t *testing.T, address string, serve func(*net.TCPConn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l
}

func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

func greet(text string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) { _, _ = io.WriteString(conn, text) }
}

// connect connects to a NodePort, with a deadline.
func connect(t *testing.T, f state.Forward) *net.TCPConn {
	t.Helper()
	return dial(t, f.At().String()).(*net.TCPConn)
}

func wantEcho(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, sent := io.WriteString(conn, text)
	_, err := io.ReadFull(conn, got)
	if sent != nil || err != nil || string(got) != text {
		t.Errorf("got %q, %v, %v, want %q", got, sent, err, text)
	}
}

// wantAll checks everything that is read until the end.
func wantAll(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if got, err := io.ReadAll(conn); err != nil || string(got) != text {
		t.Errorf("got %q, %v, want %q", got, err, text)
	}
}

// fate returns how a new connection ends.
func fate(t *testing.T, f state.Forward) error {
	t.Helper()
	conn, err := net.DialTimeout("tcp", f.At().String(), testkit.Patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestBothWaysAtOnceArriveWhole(t *testing.T) {
	for _, address := range families() {
		t.Run(address, func(t *testing.T) {
			n := startLoopback(t, LoopbackOptions{})
			f := to(state.TCP, freePort(t), serveTCP(t, address, echo).Addr())
			n.Set(web, []state.Forward{f})
			conn := connect(t, f)
			sent := make([]byte, 8<<20)
			chance := rand.NewChaCha8([32]byte{})
			_, _ = chance.Read(sent)
			var writing sync.WaitGroup
			writing.Go(func() {
				_, _ = conn.Write(sent)
				_ = conn.CloseWrite()
			})
			got, err := io.ReadAll(conn)
			writing.Wait()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("got %d bytes, %v, want the %d that were sent", len(got), err, len(sent))
			}
		})
	}
}

func TestOneEndMayFallSilentAndStillListen(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	f := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", func(conn *net.TCPConn) {
		all, err := io.ReadAll(conn) // until the client has no more to say
		if err == nil {
			_, _ = io.WriteString(conn, strings.ToUpper(string(all)))
		}
	}).Addr())
	g := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "you speak")
		_ = conn.CloseWrite()
		all, err := io.ReadAll(conn)
		if err != nil || string(all) != "all this" {
			t.Errorf("the Service got %q, %v", all, err)
		}
	}).Addr())
	n.Set(web, []state.Forward{f, g})

	conn := connect(t, f)
	_, _ = io.WriteString(conn, "question")
	_ = conn.CloseWrite()
	wantAll(t, conn, "QUESTION")

	conn = connect(t, g)
	wantAll(t, conn, "you speak")
	_, _ = io.WriteString(conn, "all this")
}

func TestResetsArePassedOn(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	ended := make(chan error, 1)
	f := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "x")
		_, err := io.ReadAll(conn)
		ended <- err
	}).Addr())
	g := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
	}).Addr())
	n.Set(web, []state.Forward{f, g})

	conn := connect(t, f)
	_, _ = conn.Read(make([]byte, 1))
	_ = conn.SetLinger(0)
	conn.Close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the Service saw %v, want a reset", err)
	}

	conn = connect(t, g)
	_, _ = io.WriteString(conn, "x")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

func TestAServiceThatRefusesIsAReset(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	s := serveTCP(t, "127.0.0.1", echo)
	s.Close()
	f := to(state.TCP, freePort(t), s.Addr())
	n.Set(web, []state.Forward{f})
	if err := fate(t, f); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

func TestOpenConnectionsOutliveTheirNodePort(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	f := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", echo).Addr())
	n.Set(web, []state.Forward{f})
	conn := connect(t, f)
	wantEcho(t, conn, "before")
	n.Set(web, nil)
	if err := fate(t, f); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection ended with %v, want it refused", err)
	}
	wantEcho(t, conn, "after")
	_ = conn.CloseWrite()
	wantAll(t, conn, "")
}

func TestANewAddressIsForNewConnections(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	answer := func(name string) func(*net.TCPConn) {
		return func(conn *net.TCPConn) {
			for _, err := conn.Read(make([]byte, 1)); err == nil; _, err = conn.Read(make([]byte, 1)) {
				_, _ = io.WriteString(conn, name)
			}
		}
	}
	one, two := serveTCP(t, "127.0.0.1", answer("1")), serveTCP(t, "127.0.0.1", answer("2"))
	f := to(state.TCP, freePort(t), one.Addr())
	n.Set(web, []state.Forward{f})
	old := connect(t, f)
	wantEcho(t, old, "1")
	n.Set(web, []state.Forward{to(state.TCP, f.NodePort, two.Addr())})
	wantEcho(t, connect(t, f), "2")
	wantEcho(t, old, "1")
	n.wantReports(t)
}

func TestManyConnectionsAtOnce(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	f := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", echo).Addr())
	n.Set(web, []state.Forward{f})
	conns := make([]*net.TCPConn, 300)
	for i := range conns {
		conns[i] = connect(t, f)
	}
	var asking sync.WaitGroup
	for i, conn := range conns {
		asking.Go(func() { wantEcho(t, conn, strings.Repeat(string(rune('a'+i%26)), 1000+i)) })
	}
	asking.Wait()
	wantEcho(t, conns[0], "still here")
}

func TestConnectionsBeyondTheLimitAreReset(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{Connections: 2})
	f := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", echo).Addr())
	n.Set(web, []state.Forward{f})
	one, two := connect(t, f), connect(t, f)
	wantEcho(t, one, "1")
	wantEcho(t, two, "2")
	if err := fate(t, f); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the third connection ended with %v, want a reset", err)
	}
	one.Close()
	testkit.Eventually(t, "there is room again", func() bool {
		conn, err := net.Dial("tcp", f.At().String())
		if err != nil {
			return false
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "3")
		_, err = conn.Read(make([]byte, 1))
		return err == nil
	})
	wantEcho(t, two, "2")
}
