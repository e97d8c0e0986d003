// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/kerneltest"
)

const patience = 10 * time.Second

// neighbour is another host: a thread in a network namespace of its own.
type neighbour struct {
	thread int
	work   chan func()
}

func newNeighbour(t *testing.T) neighbour {
	t.Helper()
	n := neighbour{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		n.thread = unix.Gettid()
		ready <- err
		for f := range n.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.work) })
	return n
}

func (n neighbour) do(f func() error) error {
	result := make(chan error)
	n.work <- func() { result <- f() }
	return <-result
}

// wire puts a cable between the test's namespace (.1) and the neighbour (.2),
// which reaches the Service addresses through it.
func wire(t *testing.T, n neighbour) {
	t.Helper()
	near := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far", PeerNamespace: netlink.NsPid(n.thread)}
	if err := netlink.LinkAdd(near); err != nil {
		t.Fatal(err)
	}
	if err := address("near", "192.0.2.1/24", "fd00:1::1/64"); err != nil {
		t.Fatal(err)
	}
	err := n.do(func() error {
		if err := address("far", "192.0.2.2/24", "fd00:1::2/64"); err != nil {
			return err
		}
		for to, via := range map[string]string{"10.96.0.0/16": "192.0.2.1", "fd00:96::/64": "fd00:1::1"} {
			_, network, err := net.ParseCIDR(to)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: network, Gw: net.ParseIP(via)}); err != nil {
				return fmt.Errorf("adding route to %s: %w", to, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// address gives addresses to a device, usable at once, and sets it up.
func address(device string, prefixes ...string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// reach asks until the address answers. An IPv6 address gets its route from a
// work queue of the kernel, some time after the request is acknowledged.
func reach(address string) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		answer, err := ask(address)
		switch {
		case err == nil && answer != "hello":
			return fmt.Errorf("answer %q", answer)
		case err == nil || time.Now().After(deadline):
			return err
		}
	}
}

// ask connects to a server and returns what it says.
func ask(address string) (string, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// The device is down, and yet its addresses are local ones, in both families:
// the kernel adds the local route with the address. This is what kube-proxy
// relies on, and so do we.
func TestAddressesOnADeviceThatIsDownGetTraffic(t *testing.T) {
	for _, vip := range []string{"10.96.0.1", "fd00:96::1"} {
		t.Run(vip, func(t *testing.T) {
			kerneltest.Namespace(t)
			n := newNeighbour(t)
			wire(t, n)
			c, err := Open()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			applied(t, c.Links().Apply(t.Context(), addDummy()), 0)
			applied(t, c.Addresses().Apply(t.Context(), add(vip)), 0)

			here := netip.AddrPortFrom(netip.MustParseAddr(vip), 8080).String()
			listener, err := net.Listen("tcp", here)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go serve(listener)

			if err := reach(here); err != nil {
				t.Errorf("from the node itself: %v", err)
			}
			if err := n.do(func() error { return reach(here) }); err != nil {
				t.Errorf("from a neighbour: %v", err)
			}
		})
	}
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed at the end of the test
		}
		io.WriteString(c, "hello")
		c.Close()
	}
}
