// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/ipvs"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

const patience = 10 * time.Second

// node is a network namespace with IPVS and connection tracking.
type node struct {
	t       *testing.T
	conn    *Conn
	maker   *netlink.Socket // makes entries, so that the traffic of conn is its own
	servers *ipvs.Handle
}

func newNode(t *testing.T) node {
	t.Helper()
	testkit.Namespace(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/vs/conntrack", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	// A network namespace tracks connections only once a rule wants it to; IPVS alone does not.
	for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
		rule := exec.Command(tool, "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW")
		if out, err := rule.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", rule, err, out)
		}
	}
	servers, err := ipvs.New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Close)
	conn, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	maker, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { maker.Close() })
	return node{t, conn, maker, servers}
}

// assign gives an address to lo, and waits for its route: that of an IPv6 address comes from a work queue of the
// kernel, some time after the request is acknowledged.
func (n node) assign(a netip.Addr) {
	n.t.Helper()
	lo, err := vnl.LinkByName("lo")
	if err != nil {
		n.t.Fatal(err)
	}
	host := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
	if err := vnl.AddrAdd(lo, &vnl.Addr{IPNet: host, Flags: unix.IFA_F_NODAD}); err != nil && !errors.Is(err, os.ErrExist) {
		n.t.Fatal(err)
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		routes, err := vnl.RouteGet(host.IP)
		if err == nil && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("no local route to %v: %v, %v", a, routes, err)
		}
	}
}

// service makes a virtual server that sends its clients to endpoints in turn.
func (n node) service(p state.Protocol, service string, endpoints ...string) {
	n.t.Helper()
	n.assign(at(service).Addr())
	family, mask := uint16(unix.AF_INET), uint32(0xffffffff)
	if at(service).Addr().Is6() {
		family, mask = unix.AF_INET6, 128
	}
	s := &ipvs.Service{
		AddressFamily: family, Protocol: uint16(p), SchedName: "rr", Netmask: mask,
		Address: at(service).Addr().AsSlice(), Port: at(service).Port(),
	}
	if err := n.servers.NewService(s); err != nil {
		n.t.Fatal(err)
	}
	for _, e := range endpoints {
		d := &ipvs.Destination{AddressFamily: family, Address: at(e).Addr().AsSlice(), Port: at(e).Port(), Weight: 1}
		if err := n.servers.NewDestination(s, d); err != nil {
			n.t.Fatal(err)
		}
	}
}

// echo answers UDP at an address.
func (n node) echo(endpoint string) {
	n.t.Helper()
	n.assign(at(endpoint).Addr())
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at(endpoint)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 64)
		for {
			length, client, err := c.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return // closed at the end of the test
			}
			c.WriteToUDPAddrPort(buffer[:length], client)
		}
	}()
}

// ask sends from a new port and waits for the answer.
func (n node) ask(service string) {
	n.t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at(service)))
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		n.t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		n.t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 64)); err != nil {
		n.t.Fatalf("asking %s: %v", service, err)
	}
}

// tracked is what the kernel tracks of a protocol, read by another library.
func (n node) tracked(family vnl.InetFamily, p state.Protocol) []string {
	n.t.Helper()
	entries, err := vnl.ConntrackTableList(vnl.ConntrackTable, family)
	if err != nil {
		n.t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		service, _ := netip.AddrFromSlice(e.Forward.DstIP)
		endpoint, _ := netip.AddrFromSlice(e.Reverse.SrcIP)
		if state.Protocol(e.Forward.Protocol) == p {
			list = append(list, state.Flow{
				Protocol: p,
				Service:  netip.AddrPortFrom(service, e.Forward.DstPort),
				Endpoint: netip.AddrPortFrom(endpoint, e.Reverse.SrcPort),
			}.String())
		}
	}
	slices.Sort(list)
	return list
}

func (n node) flush(want int, flows ...state.Flow) {
	n.t.Helper()
	got, err := n.conn.Flush(n.t.Context(), flows)
	if err != nil {
		n.t.Fatal(err)
	}
	if got != want {
		n.t.Errorf("flushed %d entries, want %d", got, want)
	}
}

func (n node) sees(got []string, want ...string) {
	n.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		n.t.Error(d)
	}
}
