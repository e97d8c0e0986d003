// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// serveUDP answers each datagram until the test ends.
func serveUDP(t *testing.T, address string, answer func([]byte) [][]byte) *net.UDPConn {
	t.Helper()
	return answerUDP(t, net.JoinHostPort(address, "0"), func(b []byte, _ netip.AddrPort) [][]byte { return answer(b) })
}

func answerUDP(t *testing.T, at string, answer func(b []byte, from netip.AddrPort) [][]byte) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		buffer := make([]byte, datagram)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			for _, a := range answer(buffer[:n], from) {
				_, _ = conn.WriteToUDPAddrPort(a, from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	return conn
}

// source answers with the source of a datagram.
func source(_ []byte, from netip.AddrPort) [][]byte { return [][]byte{[]byte(from.String())} }

// clientOf receives only from the NodePort, and has a deadline.
func clientOf(t *testing.T, f state.Forward) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(f.At()))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func askUDP(t *testing.T, conn *net.UDPConn, text string) string {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return hear(t, conn)
}

func hear(t *testing.T, conn *net.UDPConn) string {
	t.Helper()
	buffer := make([]byte, datagram)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func wantUDPAnswer(t *testing.T, conn *net.UDPConn, text, want string) {
	t.Helper()
	if got := askUDP(t, conn, text); got != want {
		t.Errorf("asked %.20q: got %.20q (%d bytes), want %.20q (%d bytes)", text, got, len(got), want, len(want))
	}
}

func (n *Loopback) openSessions() int {
	n.sessions.mutex.Lock()
	defer n.sessions.mutex.Unlock()
	return n.sessions.order.Len()
}

func TestAnswersGoToWhoAsked(t *testing.T) {
	for _, address := range families() {
		t.Run(address, func(t *testing.T) {
			n := startLoopback(t, LoopbackOptions{})
			f := to(state.UDP, freePort(t), serveUDP(t, address, func(b []byte) [][]byte { return [][]byte{b} }).LocalAddr())
			n.Set(web, []state.Forward{f})
			var asking sync.WaitGroup
			for i := range 50 {
				conn := clientOf(t, f)
				asking.Go(func() {
					for j := range 20 {
						text := fmt.Sprint("client ", i, " question ", j)
						wantUDPAnswer(t, conn, text, text)
					}
				})
			}
			asking.Wait()
			if got := n.openSessions(); got != 50 {
				t.Errorf("%d sessions for 50 clients", got)
			}
		})
	}
}

func TestDatagramsOfAnyLengthArriveWhole(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	f := to(state.UDP, freePort(t), serveUDP(t, "127.0.0.1", func(b []byte) [][]byte { return [][]byte{b} }).LocalAddr())
	n.Set(web, []state.Forward{f})
	conn := clientOf(t, f)
	for _, length := range []int{0, 1, 1500, 9000, 65507, 0, 1} {
		text := strings.Repeat("x", length)
		wantUDPAnswer(t, conn, text, text)
	}
}

func TestOneQuestionMayHaveManyAnswers(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	f := to(state.UDP, freePort(t), serveUDP(t, "127.0.0.1", func(b []byte) [][]byte { return [][]byte{b, {'2'}, {}, {'4'}} }).LocalAddr())
	n.Set(web, []state.Forward{f})
	conn := clientOf(t, f)
	wantUDPAnswer(t, conn, "1", "1")
	for _, want := range []string{"2", "", "4"} {
		if got := hear(t, conn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSilentSessionsEnd(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{Idle: 50 * time.Millisecond})
	f := to(state.UDP, freePort(t), answerUDP(t, "127.0.0.1:0", source).LocalAddr())
	n.Set(web, []state.Forward{f})
	conn := clientOf(t, f)
	askUDP(t, conn, "who am I?")
	testkit.Eventually(t, "the session ends", func() bool { return n.openSessions() == 0 })
	askUDP(t, conn, "who am I now?")
}

func TestASessionEndsWhenItWasIdleForSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		conn, err := net.ListenUDP("udp", nil)
		if err != nil {
			t.Fatal(err)
		}
		table := newSessions(2, idle)
		f := flow{conn, netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")}
		s := table.add(f, conn)
		for _, use := range []func(){func() { table.find(f) }, func() { table.used(s) }} {
			time.Sleep(idle - 1)
			if !table.alive(s) {
				t.Fatal("it ended too soon")
			}
			use()
		}
		time.Sleep(idle - 1)
		if !table.alive(s) {
			t.Error("it ended a moment too soon")
		}
		time.Sleep(time.Nanosecond)
		if table.alive(s) || table.find(f) != nil {
			t.Error("it did not end")
		}
	})
}

func TestBeyondTheLimitTheLongestIdleSessionEnds(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{Sessions: 2})
	f := to(state.UDP, freePort(t), answerUDP(t, "127.0.0.1:0", source).LocalAddr())
	n.Set(web, []state.Forward{f})
	one, two, three := clientOf(t, f), clientOf(t, f), clientOf(t, f)
	first, second := askUDP(t, one, ""), askUDP(t, two, "")
	wantUDPAnswer(t, one, "", first)
	askUDP(t, three, "") // in place of the second
	if got := n.openSessions(); got != 2 {
		t.Errorf("%d sessions, want 2", got)
	}
	wantUDPAnswer(t, one, "", first)
	if got := askUDP(t, two, ""); got == second {
		t.Errorf("the second client is still %s", got)
	}
}

func TestAServiceThatComesBackIsHeard(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	s := serveUDP(t, "127.0.0.1", func(b []byte) [][]byte { return [][]byte{b} })
	f := to(state.UDP, freePort(t), s.LocalAddr())
	n.Set(web, []state.Forward{f})
	conn := clientOf(t, f)
	wantUDPAnswer(t, conn, "hello", "hello")
	s.Close()
	for range 5 { // refused
		if _, err := conn.Write([]byte("anybody?")); err != nil {
			t.Fatal(err)
		}
	}
	answerUDP(t, f.To.String(), func([]byte, netip.AddrPort) [][]byte { return [][]byte{[]byte("back")} })
	wantUDPAnswer(t, conn, "hello again", "back")
	if got := n.openSessions(); got != 1 {
		t.Errorf("%d sessions, want the one it was", got)
	}
}

func TestSessionsEndWithTheirNodePort(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	port, other := freePort(t), freePort(t)
	s := serveUDP(t, "127.0.0.1", func(b []byte) [][]byte { return [][]byte{b} })
	f, g := to(state.UDP, port, s.LocalAddr()), to(state.UDP, other, s.LocalAddr())
	n.Set(web, []state.Forward{f, g})
	stays := clientOf(t, g)
	wantUDPAnswer(t, clientOf(t, f), "hello", "hello")
	wantUDPAnswer(t, stays, "hello", "hello")
	n.Set(web, []state.Forward{g})
	testkit.Eventually(t, "one session is left", func() bool { return n.openSessions() == 1 })
	wantUDPAnswer(t, stays, "hello again", "hello again")
}

func TestANewAddressIsForTheNextDatagram(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	one := serveUDP(t, "127.0.0.1", func([]byte) [][]byte { return [][]byte{{'1'}} })
	two := serveUDP(t, "127.0.0.1", func([]byte) [][]byte { return [][]byte{{'2'}} })
	f := to(state.UDP, freePort(t), one.LocalAddr())
	n.Set(web, []state.Forward{f})
	conn := clientOf(t, f)
	wantUDPAnswer(t, conn, "", "1")
	n.Set(web, []state.Forward{to(state.UDP, f.NodePort, two.LocalAddr())})
	wantUDPAnswer(t, conn, "", "2")
	n.wantReports(t)
}
