// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// receivedUntil returns the types of the events up to that of an address.
func receivedUntil(t *testing.T, c *Conn, until netip.Addr) (types []uint16) {
	t.Helper()
	if err := c.events.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := c.events.Read(c.buffer)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := syscall.ParseNetlinkMessage(c.buffer[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			types = append(types, m.Header.Type)
			if m.Header.Type != unix.RTM_NEWADDR && m.Header.Type != unix.RTM_DELADDR {
				continue
			}
			if a, err := link.ParseAssigned(m.Data); err == nil && a.Prefix.Addr() == until {
				return types
			}
		}
	}
}

func TestServiceAddressesAreNotEvenTold(t *testing.T) {
	testkit.Namespace(t)
	ours, other := dummy(t, string(state.DummyLink)), dummy(t, "dummy7")
	testkit.Tool(t, "ip", "link", "set", "dummy7", "addrgenmode", "none") // no address of its own
	for _, l := range []netlink.Link{ours, other} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	c := prepare(t).conn
	testkit.CloseAtEnd(t, c)
	if err := c.join(unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE); err != nil {
		t.Fatal(err)
	}
	if err := c.drop(ours.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	assign(t, ours, series("10.96.0.1", 50)...)
	assign(t, ours, series("fd00:96::1", 50)...)
	testkit.Tool(t, "ip", "route", "add", "local", "10.97.0.0/24", "dev", string(state.DummyLink))
	last := netip.MustParseAddr("192.0.2.1")
	assign(t, other, last)
	if got := receivedUntil(t, c, last); len(got) != 1 {
		t.Errorf("besides the last the kernel sent %d events: %v", len(got)-1, got)
	}

	// What matters is sent: removed addresses of the device, of which one may be the anchor, and default routes.
	gone := netip.MustParseAddr("10.96.0.7")
	if err := netlink.AddrDel(ours, host(t, gone)); err != nil {
		t.Fatal(err)
	}
	if got := receivedUntil(t, c, gone); got[len(got)-1] != unix.RTM_DELADDR {
		t.Errorf("the kernel sent %v", got)
	}
	testkit.Tool(t, "ip", "route", "add", "default", "dev", "dummy7")
	testkit.Tool(t, "ip", "route", "del", "default", "dev", "dummy7")
	assign(t, other, last.Next())
	if got := receivedUntil(t, c, last.Next()); len(got) != 3 || got[0] != unix.RTM_NEWROUTE || got[1] != unix.RTM_DELROUTE {
		t.Errorf("of a default route that came and went the kernel sent %v", got)
	}
}
