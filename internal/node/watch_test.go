// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

const patience = 30 * time.Second

// watching is a watch under test.
type watching struct {
	t      *testing.T
	conn   *Conn
	events chan Event
	end    context.CancelFunc
	ended  chan error
}

// watch starts a watch in the test's namespace and takes in the first event.
func watch(t *testing.T, first ...string) watching {
	t.Helper()
	w := prepare(t)
	w.start(func(e Event) { w.events <- e })
	w.next(Event{Addresses: addrs(first...), Networks: prefixes(), Gateways: addrs()})
	return w
}

func prepare(t *testing.T) watching {
	t.Helper()
	conn, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return watching{t: t, conn: conn, events: make(chan Event, 1000), ended: make(chan error, 1)}
}

func (w *watching) start(each func(Event)) {
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	go func() { w.ended <- w.conn.Watch(ctx, each) }()
	w.t.Cleanup(func() {
		cancel()
		select {
		case err := <-w.ended:
			if !errors.Is(err, context.Canceled) {
				w.t.Errorf("the watch ended with %v", err)
			}
		case <-time.After(patience):
			w.t.Error("the watch does not end")
		}
		if err := w.conn.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *watching) wait() Event {
	w.t.Helper()
	select {
	case e := <-w.events:
		return e
	case err := <-w.ended:
		w.ended <- err
		w.t.Fatalf("the watch ended: %v", err)
	case <-time.After(patience):
		w.t.Fatal("no event came")
	}
	panic("unreachable")
}

// next waits for the next event, which must be want.
func (w *watching) next(want Event) {
	w.t.Helper()
	got := w.wait()
	got.MTU = want.MTU // has a test of its own
	if d := cmp.Diff(want, got, same()); d != "" {
		w.t.Fatal(d)
	}
}

// until waits for the addresses to be want. It returns how many events that took and whether the device was lost in one
// of them.
func (w *watching) until(want []netip.Addr) (events int, lost bool) {
	w.t.Helper()
	for {
		e := w.wait()
		events++
		lost = lost || e.LinkLost
		if slices.Equal(e.Addresses, want) {
			return events, lost
		}
	}
}

func dummy(t *testing.T, name string) *netlink.Dummy {
	t.Helper()
	l := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatal(err)
	}
	return l
}

func assign(t *testing.T, l netlink.Link, list ...netip.Addr) {
	t.Helper()
	for _, a := range list {
		if err := netlink.AddrAdd(l, host(t, a)); err != nil {
			t.Fatal(err)
		}
	}
}

func host(t *testing.T, a netip.Addr) *netlink.Addr {
	t.Helper()
	parsed, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// series returns n addresses from first on.
func series(first string, n int) []netip.Addr {
	list := addrs(first)
	for len(list) < n {
		list = append(list, list[len(list)-1].Next())
	}
	return list
}

func TestAddressesComeAndGo(t *testing.T) {
	testkit.Namespace(t)
	l := dummy(t, "dummy7")
	assign(t, l, addrs("192.0.2.1")...)
	w := watch(t, "192.0.2.1")

	assign(t, l, addrs("2001:db8::1")...)
	w.next(Event{Addresses: addrs("192.0.2.1", "2001:db8::1"), Networks: prefixes(), Gateways: addrs()})
	if err := netlink.AddrDel(l, host(t, netip.MustParseAddr("192.0.2.1"))); err != nil {
		t.Fatal(err)
	}
	w.next(Event{Addresses: addrs("2001:db8::1"), Networks: prefixes(), Gateways: addrs()})
	if err := netlink.LinkDel(l); err != nil {
		t.Fatal(err)
	}
	w.next(Event{Addresses: addrs(), Networks: prefixes(), Gateways: addrs()})
}

func TestAnAddressInALargerNetworkIsAnEvent(t *testing.T) {
	testkit.Namespace(t)
	l := dummy(t, "dummy7")
	assign(t, l, addrs("192.0.2.1")...)
	w := watch(t, "192.0.2.1")
	testkit.Tool(t, "ip", "address", "add", "192.0.2.1/24", "dev", "dummy7")
	w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes("192.0.2.0/24"), Gateways: addrs()})
}

func TestTheSecondDeviceWithAnAddressKeepsIt(t *testing.T) {
	testkit.Namespace(t)
	one, two := dummy(t, "dummy7"), dummy(t, "dummy8")
	assign(t, one, addrs("192.0.2.1")...)
	assign(t, two, addrs("192.0.2.1")...)
	w := watch(t, "192.0.2.1")
	if err := netlink.LinkDel(one); err != nil {
		t.Fatal(err)
	}
	assign(t, two, addrs("192.0.2.2")...)
	w.next(Event{Addresses: addrs("192.0.2.1", "192.0.2.2"), Networks: prefixes(), Gateways: addrs()})
}

func TestServiceAddressesAreNoEvent(t *testing.T) {
	testkit.Namespace(t)
	l := dummy(t, "dummy7")
	w := watch(t)

	ours := dummy(t, "kube-ipvs0") // after the watch began
	services := append(series("10.96.0.1", 500), series("fd00:96::1", 500)...)
	assign(t, ours, services...)
	for _, a := range services[:300] {
		if err := netlink.AddrDel(ours, host(t, a)); err != nil {
			t.Fatal(err)
		}
	}
	assign(t, l, addrs("192.0.2.1")...)
	w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes(), Gateways: addrs()})
	got, err := w.conn.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(addrs("192.0.2.1"), got.Addresses, same()); d != "" {
		t.Error(d)
	}
}

func TestTheLossOfTheDeviceIsAnEvent(t *testing.T) {
	testkit.Namespace(t)
	assign(t, dummy(t, "dummy7"), addrs("192.0.2.1")...)
	ours := dummy(t, "kube-ipvs0")
	assign(t, ours, series("10.96.0.1", 100)...)
	w := watch(t, "192.0.2.1")

	if err := netlink.LinkDel(ours); err != nil {
		t.Fatal(err)
	}
	w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes(), Gateways: addrs(), LinkLost: true})

	ours = dummy(t, "kube-ipvs0")
	assign(t, ours, addrs("10.96.0.1")...)
	if err := netlink.LinkSetName(ours, "mine"); err != nil {
		t.Fatal(err)
	}
	w.next(Event{Addresses: addrs("10.96.0.1", "192.0.2.1"), Networks: prefixes(), Gateways: addrs(), LinkLost: true})
	if err := netlink.LinkSetName(ours, "kube-ipvs0"); err != nil {
		t.Fatal(err)
	}
	w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes(), Gateways: addrs()})
}

func TestAStormIsFewEvents(t *testing.T) {
	testkit.Namespace(t)
	l := dummy(t, "dummy7")
	w := watch(t)
	storm := series("198.18.0.1", 2000)
	assign(t, l, storm...)
	if events, _ := w.until(storm); events > len(storm)/10 {
		t.Errorf("%d addresses were %d events", len(storm), events)
	}
}

// Routes to Service addresses make no event, but their loss does.
func TestRoutesToTheDeviceAreNoNewsUntilTheyAreLost(t *testing.T) {
	testkit.Namespace(t)
	ours, other := dummy(t, "kube-ipvs0"), dummy(t, "dummy7")
	w := watch(t)
	ip := func(words ...string) {
		t.Helper()
		testkit.Tool(t, append([]string{"ip"}, words...)...)
	}
	ip("link", "set", "kube-ipvs0", "addrgenmode", "none", "up")
	ip("address", "add", "127.0.0.73/32", "dev", "kube-ipvs0")
	for _, a := range []string{"10.96.0.1", "fd00:96::1"} {
		for _, verb := range []string{"add", "del", "add"} {
			ip("route", verb, "local", a, "dev", "kube-ipvs0", "table", "local", "metric", "1024")
		}
	}
	assign(t, other, addrs("192.0.2.1")...)
	w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes(), Gateways: addrs()})
	for _, loss := range [][]string{
		{"link", "set", "kube-ipvs0", "down"},
		{"address", "del", "127.0.0.73/32", "dev", "kube-ipvs0"},
	} {
		ip(loss...)
		w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes(), Gateways: addrs(), LinkLost: true})
	}
	if err := netlink.LinkDel(ours); err != nil {
		t.Fatal(err)
	}
	w.next(Event{Addresses: addrs("192.0.2.1"), Networks: prefixes(), Gateways: addrs(), LinkLost: true})
}

func TestEventsThatDoNotFitAreMadeUpFor(t *testing.T) {
	testkit.Namespace(t)
	l, ours := dummy(t, "dummy7"), dummy(t, "kube-ipvs0")
	w := prepare(t)
	raw, err := w.conn.events.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}

	proceed := make(chan struct{})
	w.start(func(e Event) {
		w.events <- e
		<-proceed // no events are read until then
	})
	w.next(Event{Addresses: addrs(), Networks: prefixes(), Gateways: addrs()})
	storm := series("198.18.0.1", 200)
	assign(t, l, storm...)
	if err := netlink.LinkDel(ours); err != nil {
		t.Fatal(err)
	}
	assign(t, dummy(t, "kube-ipvs0"), addrs("10.96.0.1")...)
	close(proceed)
	if _, lost := w.until(storm); !lost {
		t.Error("the loss of the device was missed")
	}
}

func TestAWatchCanBeginAgain(t *testing.T) {
	testkit.Namespace(t)
	l := dummy(t, "dummy7")
	conn, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, want := range [][]netip.Addr{addrs(), addrs("192.0.2.1")} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var got []netip.Addr
		err := conn.Watch(ctx, func(e Event) {
			got = e.Addresses
			cancel()
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("the watch ended with %v", err)
		}
		if d := cmp.Diff(want, got, same()); d != "" {
			t.Error(d)
		}
		if len(got) == 0 {
			assign(t, l, addrs("192.0.2.1")...)
		}
	}
}
