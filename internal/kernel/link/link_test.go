// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

type (
	linkDelta    = diff.Delta[state.LinkName, state.Link]
	addressDelta = diff.Delta[state.Address, state.Binding]
)

func open(t *testing.T) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	return c
}

// openWithDummy has the device already.
func openWithDummy(t *testing.T) *Conn {
	t.Helper()
	c := open(t)
	applied(t, c.Links().Apply(t.Context(), addDummy()), 0)
	return c
}

func addDummy() linkDelta {
	return linkDelta{Add: []diff.Row[state.LinkName, state.Link]{{Key: state.DummyLink, Value: state.Link{Kind: "dummy"}}}}
}

func removeDummy() linkDelta {
	return linkDelta{Remove: []diff.Row[state.LinkName, state.Link]{{Key: state.DummyLink, Value: state.Link{Kind: "dummy"}}}}
}

func add(list ...string) addressDelta    { return addressDelta{Add: rows(list)} }
func remove(list ...string) addressDelta { return addressDelta{Remove: rows(list)} }

func rows(list []string) []diff.Row[state.Address, state.Binding] {
	var rows []diff.Row[state.Address, state.Binding]
	for _, a := range list {
		rows = append(rows, diff.Row[state.Address, state.Binding]{Key: state.Address{Addr: netip.MustParseAddr(a)}})
	}
	return rows
}

// applied fails the test if a row failed or there was other drift.
func applied[K comparable](t *testing.T, r kernel.Result[K], drift int) {
	t.Helper()
	for k, err := range r.Failed {
		t.Fatalf("%v failed: %v", k, err)
	}
	if r.Drift != drift {
		t.Fatalf("drift is %d, want %d", r.Drift, drift)
	}
}

// listed fails the test unless the store has exactly these addresses.
func listed(t *testing.T, c *Conn, want ...string) {
	t.Helper()
	got, err := c.Addresses().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expected := map[state.Address]state.Binding{}
	for _, row := range rows(want) {
		expected[row.Key] = state.Binding{}
	}
	if d := cmp.Diff(expected, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Fatal(d)
	}
}

func listedLinks(t *testing.T, c *Conn, want map[state.LinkName]state.Link) {
	t.Helper()
	got, err := c.Links().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// foreignDevice makes a device that is not ours.
func foreignDevice(t *testing.T, l netlink.Link, list ...string) {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(l, parsed); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinkComesStaysDownAndGoes(t *testing.T) {
	c := open(t)
	none := map[state.LinkName]state.Link{}
	listedLinks(t, c, none)

	applied(t, c.Links().Apply(t.Context(), addDummy()), 0)
	listedLinks(t, c, map[state.LinkName]state.Link{"kube-ipvs0": {Kind: "dummy"}})
	l, err := netlink.LinkByName("kube-ipvs0")
	if err != nil {
		t.Fatal(err)
	}
	if up := l.Attrs().Flags & net.FlagUp; up != 0 {
		t.Error("the device is up")
	}

	applied(t, c.Links().Apply(t.Context(), addDummy()), 1)
	applied(t, c.Links().Apply(t.Context(), removeDummy()), 0)
	listedLinks(t, c, none)
	applied(t, c.Links().Apply(t.Context(), removeDummy()), 1)
}

func TestADeviceOfAnotherKindIsShownAndLeftAlone(t *testing.T) {
	c := open(t)
	foreignDevice(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "kube-ipvs0"}})
	bridge := map[state.LinkName]state.Link{"kube-ipvs0": {Kind: "bridge"}}
	listedLinks(t, c, bridge)

	change := linkDelta{Update: []diff.Change[state.LinkName, state.Link]{
		{Key: state.DummyLink, Old: state.Link{Kind: "bridge"}, New: state.Link{Kind: "dummy"}},
	}}
	for name, d := range map[string]linkDelta{"add": addDummy(), "update": change, "remove": removeDummy()} {
		r := c.Links().Apply(t.Context(), d)
		const want = "device kube-ipvs0 is a bridge and not a dummy: it belongs to another program; rename or delete it"
		if err := r.Failed[state.DummyLink]; err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	listedLinks(t, c, bridge)
}

func TestOtherDevicesAreNeverTouched(t *testing.T) {
	c := open(t)
	row := []diff.Row[state.LinkName, state.Link]{{Key: "dummy7", Value: state.Link{Kind: "dummy"}}}
	foreignDevice(t, &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "dummy7"}})
	listedLinks(t, c, map[state.LinkName]state.Link{})
	for _, d := range []linkDelta{{Add: row}, {Remove: row}} {
		if r := c.Links().Apply(t.Context(), d); r.Failed["dummy7"] == nil {
			t.Errorf("%v was not refused", d)
		}
	}
	if _, err := netlink.LinkByName("dummy7"); err != nil {
		t.Error(err)
	}
}

func TestAddressesRoundTrip(t *testing.T) {
	c := openWithDummy(t)
	listed(t, c)

	applied(t, c.Addresses().Apply(t.Context(), add("10.96.0.1", "10.96.0.10", "fd00:96::1", "fd00:96::a")), 0)
	listed(t, c, "10.96.0.1", "10.96.0.10", "fd00:96::1", "fd00:96::a")

	applied(t, c.Addresses().Apply(t.Context(), add("10.96.0.1", "10.96.0.2", "fd00:96::1")), 2)
	listed(t, c, "10.96.0.1", "10.96.0.2", "10.96.0.10", "fd00:96::1", "fd00:96::a")

	applied(t, c.Addresses().Apply(t.Context(), remove("10.96.0.10", "10.96.0.99", "fd00:96::a", "fd00:96::99")), 2)
	listed(t, c, "10.96.0.1", "10.96.0.2", "fd00:96::1")
}

func TestOneChangeRemovesAndAdds(t *testing.T) {
	c := openWithDummy(t)
	applied(t, c.Addresses().Apply(t.Context(), add("10.96.0.1")), 0)
	both := addressDelta{Remove: rows([]string{"10.96.0.1"}), Add: rows([]string{"10.96.0.2"})}
	applied(t, c.Addresses().Apply(t.Context(), both), 0)
	listed(t, c, "10.96.0.2")
}

func TestAnAddressThatFailsKeepsNoOtherBack(t *testing.T) {
	c := openWithDummy(t)
	r := c.Addresses().Apply(t.Context(), add("10.96.0.1", "ff02::1", "fd00:96::1"))
	bad := state.Address{Addr: netip.MustParseAddr("ff02::1")}
	if len(r.Failed) != 1 || r.Failed[bad] == nil || r.Drift != 0 {
		t.Errorf("got %v, want only %v to fail", r, bad)
	}
	listed(t, c, "10.96.0.1", "fd00:96::1")
}

func TestAddressesNotOfOurKindAreNotListed(t *testing.T) {
	c := openWithDummy(t)
	ours, err := netlink.LinkByName("kube-ipvs0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.1/24", "fd00:1::1/64", "10.96.0.1/32"} {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(ours, parsed); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(ours); err != nil { // gives it a link-local address
		t.Fatal(err)
	}
	listed(t, c, "10.96.0.1")
}

func TestAddressesOfOtherDevicesAreUntouched(t *testing.T) {
	c := openWithDummy(t)
	other := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "dummy7"}}
	foreignDevice(t, other, "10.96.0.1/32", "fd00:96::1/128")

	applied(t, c.Addresses().Apply(t.Context(), add("10.96.0.1", "fd00:96::1")), 0)
	listed(t, c, "10.96.0.1", "fd00:96::1")
	applied(t, c.Addresses().Apply(t.Context(), remove("10.96.0.1", "fd00:96::1")), 0)
	listed(t, c)

	ours, err := c.Index()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.AssignedElsewhere(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, a := range got {
		count[a.String()]++
	}
	want := map[string]int{"127.0.0.1/8": 1, "::1/128": 1, "10.96.0.1/32": 1, "fd00:96::1/128": 1}
	if d := cmp.Diff(want, count); d != "" {
		t.Error(d)
	}
}

func TestWithoutTheDeviceThereAreNoAddresses(t *testing.T) {
	c := open(t)
	listed(t, c)
	applied(t, c.Addresses().Apply(t.Context(), remove("10.96.0.1", "fd00:96::1")), 2)

	r := c.Addresses().Apply(t.Context(), add("10.96.0.1", "fd00:96::1"))
	for _, row := range rows([]string{"10.96.0.1", "fd00:96::1"}) {
		if err := r.Failed[row.Key]; !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: got %v, want fs.ErrNotExist", row.Key, err)
		}
	}
}

func TestTheDeviceMayBeMadeAgainInBetween(t *testing.T) {
	c := openWithDummy(t)
	before, err := c.Index()
	if err != nil {
		t.Fatal(err)
	}
	applied(t, c.Addresses().Apply(t.Context(), add("10.96.0.1", "fd00:96::1")), 0)
	applied(t, c.Links().Apply(t.Context(), removeDummy()), 0)
	foreignDevice(t, &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "dummy7"}})
	applied(t, c.Links().Apply(t.Context(), addDummy()), 0)
	after, err := c.Index()
	if err != nil {
		t.Fatal(err)
	}
	if before == after {
		t.Fatalf("the device has the index %d again", before)
	}
	listed(t, c)
	applied(t, c.Addresses().Apply(t.Context(), add("10.96.0.1", "fd00:96::1")), 0)
	listed(t, c, "10.96.0.1", "fd00:96::1")
}

func TestADeviceDeletedAfterTheLookUpIsMissing(t *testing.T) {
	c := openWithDummy(t)
	gone, err := c.Index()
	if err != nil {
		t.Fatal(err)
	}
	applied(t, c.Links().Apply(t.Context(), removeDummy()), 0)

	for name, change := range map[string]func(*task, group){
		"assign": (*task).assign,
		"route":  (*task).route,
	} {
		list := rows([]string{"10.96.0.1", "fd00:96::1"})
		removing := task{ctx: t.Context(), c: c, device: device{gone, true}}
		removing.remove(groupOf(list, true), unassigning(), unrouting())
		applied(t, removing.result, 2)
		making := task{ctx: t.Context(), c: c, device: device{gone, true}}
		change(&making, groupOf(list, false))
		for _, row := range list {
			if err := making.result.Failed[row.Key]; !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v: got %v, want fs.ErrNotExist", name, row.Key, err)
			}
		}
	}
}

func TestThousandsOfAddressesTakeFewCalls(t *testing.T) {
	c := openWithDummy(t)
	const half = 2500
	var list []string
	v4, v6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")
	for range half {
		list = append(list, v4.String(), v6.String())
		v4, v6 = v4.Next(), v6.Next()
	}
	before := c.socket.Traffic().Calls
	applied(t, c.Addresses().Apply(t.Context(), add(list...)), 0)
	if calls := c.socket.Traffic().Calls - before; calls > 2*half/500+1 {
		t.Errorf("adding %d addresses took %d sendmsg calls", 2*half, calls)
	}
	listed(t, c, list...)

	before = c.socket.Traffic().Calls
	applied(t, c.Addresses().Apply(t.Context(), remove(list...)), 0)
	if calls := c.socket.Traffic().Calls - before; calls > 2*half/500+1 {
		t.Errorf("removing %d addresses took %d sendmsg calls", 2*half, calls)
	}
	listed(t, c)
}

func TestACancelledChangeFailsEveryRow(t *testing.T) {
	c := openWithDummy(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := c.Addresses().Apply(ctx, add("10.96.0.1", "fd00:96::1"))
	for _, row := range rows([]string{"10.96.0.1", "fd00:96::1"}) {
		if err := r.Failed[row.Key]; !errors.Is(err, context.Canceled) {
			t.Errorf("%v: got %v, want context.Canceled", row.Key, err)
		}
	}
	if r := c.Links().Apply(ctx, removeDummy()); !errors.Is(r.Failed[state.DummyLink], context.Canceled) {
		t.Errorf("got %v, want context.Canceled", r)
	}
}
