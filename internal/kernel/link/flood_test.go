// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Thousands of addresses become routes and addresses again while a neighbour and the node itself send to some of them,
// and every datagram arrives.
func TestBindingOtherwiseLosesNoDatagram(t *testing.T) {
	c, n := openBesideNeighbour(t)
	const many = 1500
	var list, asked []string
	for _, first := range []string{"10.96.0.1", "fd00:96::1"} {
		a := netip.MustParseAddr(first)
		for i := range many {
			if list = append(list, a.String()); i%(many/3) == 0 {
				asked = append(asked, a.String())
			}
			a = a.Next()
		}
	}
	now := state.Binding{}
	applied(t, c.Addresses().Apply(t.Context(), add(list...)), 0)
	f := newFlood(t, n, asked)
	for _, next := range []state.Binding{{Means: state.Routed}, {}, {Means: state.Routed}, {}} {
		f.flows(t)
		var change addressDelta
		for _, r := range rows(list) {
			change.Update = append(change.Update, diff.Change[state.Address, state.Binding]{Key: r.Key, Old: now, New: next})
		}
		applied(t, c.Addresses().Apply(t.Context(), change), 0)
		f.flows(t)
		now = next
	}
	f.end(t)
}

// flood sends datagrams to addresses, and counts those that arrive.
type flood struct {
	receiver       net.PacketConn
	stop           chan struct{}
	senders        sync.WaitGroup
	sent, received atomic.Int64
	failed         atomic.Pointer[error]
}

func newFlood(t *testing.T, n neighbour, addresses []string) *flood {
	t.Helper()
	receiver, err := net.ListenPacket("udp", ":9000")
	if err != nil {
		t.Fatal(err)
	}
	roomFor(t, receiver.(*net.UDPConn))
	f := &flood{receiver: receiver, stop: make(chan struct{})}
	go func() {
		for b := make([]byte, 1); ; {
			if _, _, err := receiver.ReadFrom(b); err != nil {
				return // closed
			}
			f.received.Add(1)
		}
	}()
	for _, a := range addresses {
		to := netip.AddrPortFrom(netip.MustParseAddr(a), 9000).String()
		if err := reached(to); err != nil { // an IPv6 address is local some time later
			t.Fatal(err)
		}
		var far net.Conn
		near, err := net.Dial("udp", to)
		if err == nil {
			err = n.do(func() (err error) { far, err = net.Dial("udp", to); return err })
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, conn := range []net.Conn{near, far} {
			f.senders.Go(func() { f.send(conn) })
		}
	}
	return f
}

// roomFor lets what arrives wait for who reads it: there may be one processor.
func roomFor(t *testing.T, c *net.UDPConn) {
	t.Helper()
	const bytes = 64 << 20
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reached waits until the kernel takes an address for one of its own.
func reached(to string) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	ip := netip.MustParseAddrPort(to).Addr()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-poll.C {
		routes, err := netlink.RouteGet(ip.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
	}
	return fmt.Errorf("%v is not local after %v", ip, patience)
}

func (f *flood) send(conn net.Conn) {
	defer conn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		if _, err := conn.Write([]byte{0}); err != nil {
			f.failed.Store(&err)
		}
		f.sent.Add(1)
	}
}

// flows waits for more datagrams.
func (f *flood) flows(t *testing.T) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	more := f.received.Load() + 200
	for deadline := time.Now().Add(patience); f.received.Load() < more; <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("of %d datagrams %d arrived, and no more", f.sent.Load(), f.received.Load())
		}
	}
}

func (f *flood) end(t *testing.T) {
	t.Helper()
	close(f.stop)
	f.senders.Wait()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); f.received.Load() < f.sent.Load() && time.Now().Before(deadline); {
		<-poll.C
	}
	f.receiver.Close()
	if err := f.failed.Load(); err != nil {
		t.Errorf("a datagram could not be sent: %v", *err)
	}
	if lost := f.sent.Load() - f.received.Load(); lost > 0 {
		t.Errorf("%d of %d datagrams were lost", lost, f.sent.Load())
	}
	t.Logf("%d datagrams", f.sent.Load())
}
