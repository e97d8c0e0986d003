// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
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

// openBesideNeighbour has the device already, and a neighbour on a cable.
func openBesideNeighbour(t *testing.T) (*Conn, neighbour) {
	t.Helper()
	c, n := openWithDummy(t), newNeighbour(t)
	wire(t, n)
	return c, n
}

// wire puts a cable between the test's namespace (.1) and the neighbour (.2), which reaches the Service addresses
// through it.
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

// reach asks until the address answers. An IPv6 address gets its route from a work queue of the kernel, some time after
// the request is acknowledged.
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

// listen waits until the address is the node's: an IPv6 one is tentative before.
func listen(address string) (net.Listener, error) {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		l, err := net.Listen("tcp", address)
		if !errors.Is(err, unix.EADDRNOTAVAIL) || time.Now().After(deadline) {
			return l, err
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

// The device is down, and yet its addresses are local ones, in both families: the kernel adds the local route with the
// address. This is what kube-proxy relies on, and so do we.
func TestAddressesOnADeviceThatIsDownGetTraffic(t *testing.T) {
	for _, vip := range []string{"10.96.0.1", "fd00:96::1"} {
		t.Run(vip, func(t *testing.T) {
			c, n := openBesideNeighbour(t)
			applied(t, c.Addresses().Apply(t.Context(), add(vip)), 0)

			here := netip.AddrPortFrom(netip.MustParseAddr(vip), 8080).String()
			listener, err := listen(here)
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

// With a route the node's own packets come from the address that it names.
func TestRoutesGetTraffic(t *testing.T) {
	for vip, source := range map[string]string{"10.96.0.1": "192.0.2.1", "fd00:96::1": "fd00:1::1"} {
		t.Run(vip, func(t *testing.T) {
			c, n := openBesideNeighbour(t)
			applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows(source, vip)}), 0)

			// What listens at a Service address itself could not do so over IPv6.
			listener, err := net.Listen("tcp", ":8080")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go serve(listener)
			here := netip.AddrPortFrom(netip.MustParseAddr(vip), 8080).String()
			if err := n.do(func() error { return reach(here) }); err != nil {
				t.Errorf("from a neighbour: %v", err)
			}
			own, err := net.Dial("tcp", here)
			if err != nil {
				t.Fatalf("from the node itself: %v", err)
			}
			defer own.Close()
			itself, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(vip), 8081).String())
			if taken := err == nil; taken != netip.MustParseAddr(vip).Is4() {
				t.Errorf("a program can listen at %v itself: %v", vip, err)
			}
			if itself != nil {
				itself.Close()
			}
			if got := own.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); got != netip.MustParseAddr(source) {
				t.Errorf("the node comes from %v, want %v", got, source)
			}
		})
	}
}

// A neighbour that takes Service addresses for its own network asks who has them. Over IPv4 the node says that it has,
// by either means, unless it is strict; over IPv6 it does not, as the address is on another device or on none.
func TestWhoHasAServiceAddress(t *testing.T) {
	for vip, answer := range map[string]bool{"10.97.0.1": true, "fd00:97::1": false} {
		for _, means := range []state.Means{state.Assigned, state.Routed} {
			for _, strict := range []bool{false, true} {
				t.Run(fmt.Sprint(vip, " ", state.Binding{Means: means}, " ", strict), func(t *testing.T) {
					c, n := openBesideNeighbour(t)
					if strict {
						testkit.Tool(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore")
					}
					list := rows([]string{vip})
					list[0].Value.Means = means
					applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: list}), 0)
					want := answer && !strict
					if got := n.resolves(t, vip); got != want {
						t.Errorf("the neighbour learns who has %s: %v, want %v", vip, got, want)
					}
				})
			}
		}
	}
}

// resolves sends something to an address of the neighbour's own network, and reports whether any host answered that it
// has it.
func (n neighbour) resolves(t *testing.T, vip string) (resolved bool) {
	t.Helper()
	err := n.do(func() error {
		far, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		a := netip.MustParseAddr(vip)
		to := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := netlink.RouteAdd(&netlink.Route{Dst: to, LinkIndex: far.Attrs().Index}); err != nil {
			return err
		}
		c, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("who has?")); err != nil {
			return err
		}
		const settled = netlink.NUD_REACHABLE | netlink.NUD_FAILED
		poll := time.NewTicker(10 * time.Millisecond)
		defer poll.Stop()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-poll.C {
			list, err := netlink.NeighList(far.Attrs().Index, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, known := range list {
				if known.IP.Equal(to.IP) && known.State&settled != 0 {
					resolved = known.State == netlink.NUD_REACHABLE
					return nil
				}
			}
		}
		return fmt.Errorf("nothing is known of %s after %v", vip, patience)
	})
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}
