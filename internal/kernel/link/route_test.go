// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// routeMessage is the body of a message of a route with this header.
func routeMessage(header []byte, attributes ...[]byte) []byte {
	body := header
	for _, a := range attributes {
		body = append(body, a...)
	}
	return body
}

func four(n uint32) []byte {
	var b netlink.Requests
	b.Begin(0, 0)
	b.Uint32(0, n)
	return b.Body(0)[unix.SizeofNlAttr:]
}

func sameAddr() cmp.Option { return cmp.Comparer(func(a, b netip.Addr) bool { return a == b }) }

func TestRoutesAreReadAsTheyAreWritten(t *testing.T) {
	for _, r := range []row{
		{key: state.Address{Addr: netip.MustParseAddr("10.96.0.1")}},
		{key: state.Address{Addr: netip.MustParseAddr("10.96.0.1")}, want: state.Binding{Source: netip.MustParseAddr("192.0.2.1")}},
		{key: state.Address{Addr: netip.MustParseAddr("fd00:96::1")}, want: state.Binding{Source: netip.MustParseAddr("fd00:1::1")}},
		{key: state.Address{Addr: netip.MustParseAddr("10.96.0.1")}, want: state.Binding{Source: netip.MustParseAddr("192.0.2.1"), MTU: 1500}},
	} {
		var b netlink.Requests
		addRoute(&b, 7, r, 0)
		got, err := parseRoute(b.Body(0))
		if err != nil {
			t.Fatal(err)
		}
		want := route{
			table: 255, protocol: 73, kind: unix.RTN_LOCAL, metric: 1024, device: 7,
			to: r.key.Addr, bits: r.key.BitLen(), source: r.want.Source, mtu: r.want.MTU,
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(route{}), sameAddr()); d != "" {
			t.Error(d)
		}
		if !got.binds(7, state.RouteProtocol) {
			t.Errorf("%v is not ours", got)
		}
	}
}

func TestOurRoutesAreThoseOfOurMaking(t *testing.T) {
	ours := route{
		table: 255, protocol: state.RouteProtocol, kind: unix.RTN_LOCAL, metric: state.RouteMetric, device: 7,
		to: netip.MustParseAddr("10.96.0.1"), bits: 32,
	}
	if !ours.binds(7, state.RouteProtocol) {
		t.Error("ours is not")
	}
	for what, change := range map[string]func(*route){
		"one of another table":    func(r *route) { r.table = unix.RT_TABLE_MAIN },
		"one of another protocol": func(r *route) { r.protocol = unix.RTPROT_STATIC },
		"one of another type":     func(r *route) { r.kind = unix.RTN_UNICAST },
		"one of another metric":   func(r *route) { r.metric = 0 },
		"one of another device":   func(r *route) { r.device = 8 },
		"one of a network":        func(r *route) { r.bits = 24 },
		"one of no address":       func(r *route) { r.to, r.bits = netip.Addr{}, 0 },
	} {
		r := ours
		if change(&r); r.binds(7, state.RouteProtocol) {
			t.Errorf("%s counts as ours", what)
		}
	}
}

func TestParseRouteRefusesNonsense(t *testing.T) {
	header := routeHeader(unix.AF_INET, 32, state.RouteProtocol, 0)
	for name, body := range map[string][]byte{
		"too short":            header[:5],
		"destination of five":  routeMessage(header, attribute(unix.RTA_DST, []byte{1, 2, 3, 4, 5})),
		"source of five":       routeMessage(header, attribute(unix.RTA_PREFSRC, []byte{1, 2, 3, 4, 5})),
		"attribute cut short":  routeMessage(header, attribute(unix.RTA_DST, addr("192.0.2.1"))[:6]),
		"attribute of nothing": append(header, 0, 0, 0, 0),
	} {
		if got, err := parseRoute(body); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
	if got, err := parseRoute(routeHeader(unix.AF_MPLS, 32, state.RouteProtocol, 0)); err != nil || got != (route{}) {
		t.Errorf("a route of another family: %v, %v, want the zero route", got, err)
	}
}

func FuzzParseRoute(f *testing.F) {
	header := routeHeader(unix.AF_INET, 32, state.RouteProtocol, 0)
	f.Add(routeMessage(header, attribute(unix.RTA_DST, addr("10.96.0.1")), attribute(unix.RTA_OIF, four(7))))
	f.Add(routeHeader(unix.AF_INET6, 0, 2, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRoute(body)
		if err != nil || !r.binds(r.device, state.RouteProtocol) || r.limits() {
			return
		}
		var b netlink.Requests
		addRoute(&b, r.device, row{key: state.Address{Addr: r.to}, want: state.Binding{Source: r.source, MTU: r.mtu}}, 0)
		if again, err := parseRoute(b.Body(0)); err != nil || again != r {
			t.Errorf("%v became %v, %v", r, again, err)
		}
	})
}

func routedRows(source string, list ...string) []diff.Row[state.Address, state.Binding] {
	all := rows(list)
	for i := range all {
		all[i].Value.Means = state.Routed
		if a, err := netip.ParseAddr(source); err == nil && a.Is4() == all[i].Key.Is4() {
			all[i].Value.Source = a
		}
	}
	return all
}

// bindings fails the test unless the store has exactly these rows, written as "10.96.0.1 routed from 192.0.2.1".
func bindings(t *testing.T, c *Conn, want ...string) {
	t.Helper()
	expected := map[string]bool{}
	for _, w := range want {
		expected[w] = true
	}
	got := map[string]bool{}
	for a, b := range testkit.Listed(t, c.Addresses()) {
		got[fmt.Sprint(a, " ", b)] = true
	}
	if d := cmp.Diff(expected, got); d != "" {
		t.Fatal(d)
	}
}

func isUp(t *testing.T) bool {
	t.Helper()
	l, err := vnl.LinkByName("kube-ipvs0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Flags&net.FlagUp != 0
}

func TestRoutesAreNoAddresses(t *testing.T) {
	c := openWithDummy(t)
	testkit.Tool(t, "ip", "address", "add", "192.0.2.1/24", "dev", "lo")
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows("192.0.2.1", "10.96.0.1", "10.96.0.2")}), 0)
	bindings(t, c, "10.96.0.1 routed from 192.0.2.1", "10.96.0.2 routed from 192.0.2.1")
	if isUp(t) {
		t.Error("the device is up for the sake of IPv4")
	}
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows("", "fd00:96::1")}), 0)
	bindings(t, c, "10.96.0.1 routed from 192.0.2.1", "10.96.0.2 routed from 192.0.2.1", "fd00:96::1 routed")
	if !isUp(t) {
		t.Error("the device has an IPv6 route and is not up")
	}
	const want = "kube-ipvs0 UNKNOWN 127.0.0.73/32"
	if got := strings.Join(strings.Fields(testkit.Tool(t, "ip", "-brief", "address", "show", "kube-ipvs0")), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheLastAddressTakesNoRouteWithIt(t *testing.T) {
	c := openWithDummy(t)
	vips := []string{"10.96.0.1", "10.96.0.2", "fd00:96::1", "fd00:96::2"}
	applied(t, c.Addresses().Apply(t.Context(), add(vips...)), 0)
	var change addressDelta
	for _, r := range routedRows("", vips...) {
		change.Update = append(change.Update, diff.Change[state.Address, state.Binding]{Key: r.Key, New: r.Value})
	}
	applied(t, c.Addresses().Apply(t.Context(), change), 0)
	bindings(t, c, "10.96.0.1 routed", "10.96.0.2 routed", "fd00:96::1 routed", "fd00:96::2 routed")

	testkit.Tool(t, "ip", "address", "add", "10.96.0.9/32", "dev", "kube-ipvs0")
	testkit.Tool(t, "ip", "address", "del", "10.96.0.9/32", "dev", "kube-ipvs0")
	bindings(t, c, "10.96.0.1 routed", "10.96.0.2 routed", "fd00:96::1 routed", "fd00:96::2 routed")
}

func TestAChangeThatWasInterruptedIsSeenAndFinished(t *testing.T) {
	for _, want := range []state.Binding{{}, {Means: state.Routed}} {
		c := openWithDummy(t)
		applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows("", "10.96.0.1", "fd00:96::1")}), 0)
		testkit.Tool(t, "ip", "address", "add", "10.96.0.1/32", "dev", "kube-ipvs0")
		testkit.Tool(t, "ip", "address", "add", "fd00:96::1/128", "dev", "kube-ipvs0")
		bindings(t, c, "10.96.0.1 doubled", "fd00:96::1 doubled")

		var change addressDelta
		for a, b := range testkit.Listed(t, c.Addresses()) {
			change.Update = append(change.Update, diff.Change[state.Address, state.Binding]{Key: a, Old: b, New: want})
		}
		applied(t, c.Addresses().Apply(t.Context(), change), 0)
		bindings(t, c, "10.96.0.1 "+want.String(), "fd00:96::1 "+want.String())
	}
}

func TestBothMeansAreRemoved(t *testing.T) {
	c := openWithDummy(t)
	vips := []string{"10.96.0.1", "fd00:96::1"}
	testkit.Tool(t, "ip", "address", "add", "127.0.0.73/32", "dev", "kube-ipvs0", "scope", "host")
	for _, believed := range []state.Means{state.Assigned, state.Routed, state.Doubled} {
		for _, have := range []state.Means{state.Assigned, state.Routed, state.Doubled} {
			if have != state.Routed {
				applied(t, c.Addresses().Apply(t.Context(), add(vips...)), 0)
			}
			if have != state.Assigned {
				testkit.Tool(t, "ip", "link", "set", "kube-ipvs0", "up")
				for _, a := range vips {
					testkit.Tool(t, "ip", "route", "add", "local", a, "dev", "kube-ipvs0", "table", "local",
						"protocol", "73", "metric", "1024", "scope", "host")
				}
			}
			list := rows(vips)
			for i := range list {
				list[i].Value.Means = believed
			}
			applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: list}), 0)
			if have == state.Doubled && believed != have { // one of the two was not known of
				applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: list}), 0)
			}
			bindings(t, c)
		}
	}
}

func TestRoutesOfOthersAreUntouched(t *testing.T) {
	c := openWithDummy(t)
	add := func(words ...string) {
		testkit.Tool(t, append([]string{"ip", "route", "add", "local"}, words...)...)
	}
	add("10.96.0.1", "dev", "kube-ipvs0", "table", "local", "protocol", "static", "scope", "host")
	add("10.96.0.1", "dev", "lo", "table", "local", "protocol", "73", "metric", "7", "scope", "host")
	add("10.96.0.0/24", "dev", "kube-ipvs0", "table", "local", "protocol", "73", "metric", "1024", "scope", "host")
	add("10.96.0.1", "dev", "kube-ipvs0", "table", "100", "protocol", "73", "metric", "1024", "scope", "host")
	testkit.Tool(t, "ip", "address", "add", "127.0.0.73/32", "dev", "kube-ipvs0", "scope", "host")
	before := testkit.Tool(t, "ip", "route", "show", "table", "all")
	bindings(t, c)

	ours := routedRows("", "10.96.0.1")
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: ours}), 0)
	bindings(t, c, "10.96.0.1 routed")
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: ours}), 0)
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: ours}), 1)
	if d := cmp.Diff(before, testkit.Tool(t, "ip", "route", "show", "table", "all")); d != "" {
		t.Error(d)
	}
}

func TestADeviceThatIsSetDownIsSetUpForItsRoutes(t *testing.T) {
	c := openWithDummy(t)
	all := addressDelta{Add: routedRows("", "10.96.0.1", "fd00:96::1")}
	applied(t, c.Addresses().Apply(t.Context(), all), 0)
	testkit.Tool(t, "ip", "link", "set", "kube-ipvs0", "down")
	bindings(t, c, "10.96.0.1 routed")
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows("", "fd00:96::1")}), 0)
	bindings(t, c, "10.96.0.1 routed", "fd00:96::1 routed")

	applied(t, c.Links().Apply(t.Context(), removeDummy()), 0)
	applied(t, c.Links().Apply(t.Context(), addDummy()), 0)
	bindings(t, c)
	applied(t, c.Addresses().Apply(t.Context(), all), 0)
	bindings(t, c, "10.96.0.1 routed", "fd00:96::1 routed")
}

func TestARouteFromAnAddressThatTheNodeLacksFailsAlone(t *testing.T) {
	c := openWithDummy(t)
	bad := append(routedRows("192.0.2.77", "10.96.0.1"), routedRows("2001:db8::77", "fd00:96::1")...)
	r := c.Addresses().Apply(t.Context(), addressDelta{Add: append(bad, routedRows("", "10.96.0.2", "fd00:96::2")...)})
	if len(r.Failed) != 2 || r.Failed[bad[0].Key] == nil || r.Failed[bad[1].Key] == nil || r.Drift != 0 {
		t.Errorf("got %v, want the first two to fail", r)
	}
	bindings(t, c, "10.96.0.2 routed", "fd00:96::2 routed")
}

// Many rows are looked for among those that are there by the other means, and not asked for one by one.
func TestThousandsOfRoutesTakeFewCalls(t *testing.T) {
	c := openWithDummy(t)
	var list []string
	v4, v6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")
	const half = 2500
	for range half {
		list = append(list, v4.String(), v6.String())
		v4, v6 = v4.Next(), v6.Next()
	}
	applied(t, c.Addresses().Apply(t.Context(), add(list[0], list[1])), 0)
	before := c.socket.Traffic().Calls
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows("", list...)}), 2)
	if calls := c.socket.Traffic().Calls - before; calls > 2*half/500+4 {
		t.Errorf("adding %d routes took %d sendmsg calls", 2*half, calls)
	}
	for a, b := range testkit.Listed(t, c.Addresses()) {
		if b != (state.Binding{Means: state.Routed}) {
			t.Errorf("%v is %v", a, b)
		}
	}
	before = c.socket.Traffic().Calls
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: routedRows("", list...)}), 0)
	if calls := c.socket.Traffic().Calls - before; calls > 2*half/500+1 {
		t.Errorf("removing %d routes took %d sendmsg calls", 2*half, calls)
	}
	listed(t, c)
}

// The kernel makes the route of an IPv6 address some time after the address.
func TestARouteGoesOnlyWhenThatOfTheAddressIsThere(t *testing.T) {
	c := openWithDummy(t)
	d, err := c.device()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		vip := fmt.Sprintf("fd00:96::%x", n+1)
		applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: routedRows("", vip)}), 0)
		row := rows([]string{vip})[0]
		change := diff.Change[state.Address, state.Binding]{Key: row.Key, Old: state.Binding{Means: state.Routed}, New: row.Value}
		applied(t, c.Addresses().Apply(t.Context(), addressDelta{Update: []diff.Change[state.Address, state.Binding]{change}}), 0)
		routes, err := c.routes(t.Context(), d.index, unix.RTPROT_KERNEL)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(destinations(routes), row.Key) {
			t.Fatalf("%v has neither route, the %d. of its kind", row.Key, n+1)
		}
	}
}
