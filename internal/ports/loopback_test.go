// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func families() []string { return []string{"127.0.0.1", "::1"} }

type loopbackReport struct {
	service types.NamespacedName
	forward state.Forward
	err     error
}

// startedLoopback is a Loopback with its reports.
type startedLoopback struct {
	*Loopback
	reports chan loopbackReport
}

func startLoopback(t *testing.T, o LoopbackOptions) *startedLoopback {
	t.Helper()
	s := &startedLoopback{reports: make(chan loopbackReport, 100)}
	testkit.LeavesNoGoroutine(t, func() { s.Close() })
	o.Report = func(service types.NamespacedName, f state.Forward, err error) {
		s.reports <- loopbackReport{service, f, err}
	}
	s.Loopback = NewLoopback(o)
	return s
}

// wantReports checks that exactly these reports come next.
func (s *startedLoopback) wantReports(t *testing.T, want ...loopbackReport) {
	t.Helper()
	testkit.WantReports(t, s.reports, func(got, want loopbackReport) bool {
		return got.service == want.service && got.forward == want.forward && errors.Is(got.err, want.err)
	}, want...)
}

// to returns a Forward to a listener.
func to(protocol state.Protocol, nodePort uint16, at net.Addr) state.Forward {
	return state.Forward{Protocol: protocol, NodePort: nodePort, To: netip.MustParseAddrPort(at.String())}
}

func TestWhereClientsConnectTo(t *testing.T) {
	for _, c := range []struct{ to, want string }{
		{"10.96.0.10:80", "TCP 127.0.0.1:30080 -> 10.96.0.10:80"},
		{"[fd00::10]:80", "TCP [::1]:30080 -> [fd00::10]:80"},
	} {
		f := state.Forward{Protocol: state.TCP, NodePort: 30080, To: netip.MustParseAddrPort(c.to)}
		if got := f.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestOnePortNumberServesBothProtocolsAndFamilies(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	port := freePort(t)
	var forwards []state.Forward
	for _, f := range families() {
		tcp, udp := serveTCP(t, f, echo), serveUDP(t, f, func(b []byte) [][]byte { return [][]byte{b} })
		forwards = append(forwards, to(state.TCP, port, tcp.Addr()), to(state.UDP, port, udp.LocalAddr()))
	}
	n.Set(web, append(forwards, state.Forward{Protocol: state.SCTP, NodePort: port, To: forwards[0].To}, state.Forward{Protocol: state.TCP, NodePort: 0, To: forwards[0].To}))
	for _, f := range forwards {
		if f.Protocol == state.TCP {
			wantEcho(t, connect(t, f), "hello")
		} else {
			wantUDPAnswer(t, clientOf(t, f), "hello", "hello")
		}
	}
	n.wantReports(t)
}

func TestALoopbackPortThatAStrangerHasIsOpenedWhenItLeaves(t *testing.T) {
	for _, protocol := range []state.Protocol{state.TCP, state.UDP} {
		for _, address := range families() {
			t.Run(fmt.Sprint(protocol, " ", address), func(t *testing.T) {
				n := startLoopback(t, LoopbackOptions{})
				f := state.Forward{Protocol: protocol, NodePort: freePort(t), To: netip.AddrPortFrom(netip.MustParseAddr(address), 9)}
				s := occupy(t, f.Protocol, f.At().String())
				n.Set(web, []state.Forward{f})
				n.Set(web, []state.Forward{f}) // changes nothing
				n.wantReports(t, loopbackReport{web, f, syscall.EADDRINUSE})
				s.Close()
				n.wantReports(t, loopbackReport{web, f, nil})
			})
		}
	}
}

func TestTheSecondServiceWaitsForTheLoopbackPortOfTheFirst(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	one, two := serveTCP(t, "127.0.0.1", greet("one")), serveTCP(t, "127.0.0.1", greet("two"))
	port := freePort(t)
	first, second := to(state.TCP, port, one.Addr()), to(state.TCP, port, two.Addr())
	n.Set(web, []state.Forward{first})
	n.Set(mail, []state.Forward{second})
	n.wantReports(t, loopbackReport{mail, second, syscall.EADDRINUSE})
	wantAll(t, connect(t, first), "one")
	n.Set(web, nil)
	n.wantReports(t, loopbackReport{mail, second, nil}) // at once
	wantAll(t, connect(t, first), "two")
}

func TestALoopbackPortThatIsNotWantedAnyMoreIsNotOpenedLater(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	f := state.Forward{Protocol: state.UDP, NodePort: freePort(t), To: netip.MustParseAddrPort("127.0.0.1:9")}
	s := occupy(t, f.Protocol, f.At().String())
	n.Set(web, []state.Forward{f})
	n.wantReports(t, loopbackReport{web, f, syscall.EADDRINUSE})
	n.Set(web, nil)
	s.Close()
	n.Set(mail, []state.Forward{f}) // would fail if the other had it
	n.wantReports(t)
}

func TestALoopbackPortThatBreaksIsOpenedAnew(t *testing.T) {
	for _, protocol := range []state.Protocol{state.TCP, state.UDP} {
		t.Run(protocol.String(), func(t *testing.T) {
			n := startLoopback(t, LoopbackOptions{})
			f := state.Forward{Protocol: protocol, NodePort: freePort(t), To: netip.MustParseAddrPort("127.0.0.1:9")}
			n.Set(web, []state.Forward{f})
			n.mutex.Lock()
			n.ports[web][address{protocol, f.At()}].close()
			n.mutex.Unlock()
			n.wantReports(t, loopbackReport{web, f, net.ErrClosed}, loopbackReport{web, f, nil})
		})
	}
}

func TestCloseEndsEverythingForGood(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	port := freePort(t)
	tcp := to(state.TCP, port, serveTCP(t, "127.0.0.1", echo).Addr())
	udp := to(state.UDP, port, serveUDP(t, "127.0.0.1", func(b []byte) [][]byte { return [][]byte{b} }).LocalAddr())
	n.Set(web, []state.Forward{tcp, udp})
	n.Set(mail, []state.Forward{tcp}) // can't
	conn := connect(t, tcp)
	wantEcho(t, conn, "hello")
	wantUDPAnswer(t, clientOf(t, udp), "hello", "hello")
	n.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection ended with %v, want a reset", err)
	}
	occupy(t, tcp.Protocol, tcp.At().String())
	occupy(t, udp.Protocol, udp.At().String())
	n.Set(web, []state.Forward{tcp, udp})
	n.Close()
	n.wantReports(t, loopbackReport{mail, tcp, syscall.EADDRINUSE})
}

func TestManyMayCallAtOnceForLoopbackPorts(t *testing.T) {
	n := startLoopback(t, LoopbackOptions{})
	tcp := to(state.TCP, freePort(t), serveTCP(t, "127.0.0.1", echo).Addr())
	udp := to(state.UDP, tcp.NodePort, serveUDP(t, "127.0.0.1", func(b []byte) [][]byte { return [][]byte{b} }).LocalAddr())
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for i := range 50 {
				n.Set(web, []state.Forward{tcp, udp}[:i%3])
				if conn, err := net.Dial("tcp", tcp.At().String()); err == nil {
					conn.Close()
				}
				if conn, err := net.Dial("udp", udp.At().String()); err == nil {
					fmt.Fprint(conn, "hello")
					conn.Close()
				}
			}
		})
	}
	calls.Wait()
	n.Set(web, []state.Forward{tcp, udp})
	wantEcho(t, connect(t, tcp), "hello")
	wantUDPAnswer(t, clientOf(t, udp), "hello", "hello")
	n.wantReports(t)
}
