// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func route(t *testing.T, change func(*netlink.Route) error, l netlink.Link, gateway string) {
	t.Helper()
	_, all, err := net.ParseCIDR("0.0.0.0/0")
	if strings.Contains(gateway, ":") {
		_, all, err = net.ParseCIDR("::/0")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := change(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: all, Gw: net.ParseIP(gateway)}); err != nil {
		t.Fatal(err)
	}
}

func TestGatewaysComeAndGo(t *testing.T) {
	testkit.Namespace(t)
	l := dummy(t, "dummy7")
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(l, parsed); err != nil {
			t.Fatal(err)
		}
	}
	up := func() {
		t.Helper()
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	up()
	w := prepare(t)
	w.start(func(e Event) { w.events <- e })
	w.next(Event{Addresses: addrs("192.0.2.1", "2001:db8::1"), Networks: prefixes("192.0.2.0/24"), Gateways: addrs()})
	other, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	// next waits for gateways: an IPv6 address that comes or goes is an event too.
	next := func(want ...string) {
		t.Helper()
		for {
			e := w.wait()
			now, err := other.Now(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if slices.Equal(e.Gateways, addrs(want...)) && slices.Equal(now.Gateways, e.Gateways) {
				return
			}
		}
	}
	route(t, netlink.RouteAdd, l, "192.0.2.254")
	next("192.0.2.254")
	route(t, netlink.RouteAdd, l, "2001:db8::fe")
	next("192.0.2.254", "2001:db8::fe")
	route(t, netlink.RouteReplace, l, "192.0.2.253")
	next("192.0.2.253", "2001:db8::fe")
	route(t, netlink.RouteDel, l, "2001:db8::fe")
	next("192.0.2.253")
	if err := netlink.LinkSetDown(l); err != nil {
		t.Fatal(err)
	}
	next()
}

func TestAWatchTellsWhatAllDevicesCarry(t *testing.T) {
	testkit.Namespace(t)
	w := watch(t)
	next := func(mtu uint32) {
		t.Helper()
		e := w.wait()
		for e.MTU != mtu { // an IPv6 address that comes or goes is an event too
			e = w.wait()
		}
	}
	testkit.Tool(t, "ip", "link", "add", "left", "type", "veth", "peer", "name", "right")
	testkit.Tool(t, "ip", "link", "set", "left", "mtu", "1450")
	testkit.Tool(t, "ip", "link", "set", "right", "mtu", "1400")
	testkit.Tool(t, "ip", "link", "set", "left", "up")
	testkit.Tool(t, "ip", "link", "set", "right", "up")
	next(1400)
	testkit.Tool(t, "ip", "link", "set", "right", "mtu", "9000")
	next(1450)
	testkit.Tool(t, "ip", "link", "set", "left", "mtu", "1500")
	next(1500)
	testkit.Tool(t, "ip", "link", "set", "right", "down") // so that the left one carries nothing
	next(0)
	testkit.Tool(t, "ip", "link", "set", "right", "up")
	next(1500)
	testkit.Tool(t, "ip", "link", "del", "right")
	next(0)
}
