// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/vishvananda/netlink/nl"
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

// assign gives an address to lo, and waits for its route: that of an IPv6 address comes from a work queue of
// the kernel, some time after the request is acknowledged.
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

func TestFlushDeletesTheFlowsThroughIPVSThatItIsTold(t *testing.T) {
	n := newNode(t)
	for _, e := range []string{"10.244.1.7:5353", "10.244.1.8:5353", "[fd00:244::7]:5353", "[fd00:244::8]:5353"} {
		n.echo(e)
	}
	n.service(state.UDP, "10.96.0.10:53", "10.244.1.7:5353", "10.244.1.8:5353")
	n.service(state.UDP, "10.96.0.11:53", "10.244.1.7:5353")
	n.service(state.UDP, "[fd00:96::a]:53", "[fd00:244::7]:5353", "[fd00:244::8]:5353")
	for _, s := range []string{"10.96.0.10:53", "[fd00:96::a]:53", "10.96.0.10:53", "[fd00:96::a]:53", "10.96.0.11:53"} {
		n.ask(s)
		n.ask(s)
	}
	n.sees(n.tracked(unix.AF_INET, state.UDP),
		"UDP 10.96.0.10:53 -> 10.244.1.7:5353", "UDP 10.96.0.10:53 -> 10.244.1.7:5353",
		"UDP 10.96.0.10:53 -> 10.244.1.8:5353", "UDP 10.96.0.10:53 -> 10.244.1.8:5353",
		"UDP 10.96.0.11:53 -> 10.244.1.7:5353", "UDP 10.96.0.11:53 -> 10.244.1.7:5353")
	n.sees(n.tracked(unix.AF_INET6, state.UDP),
		"UDP [fd00:96::a]:53 -> [fd00:244::7]:5353", "UDP [fd00:96::a]:53 -> [fd00:244::7]:5353",
		"UDP [fd00:96::a]:53 -> [fd00:244::8]:5353", "UDP [fd00:96::a]:53 -> [fd00:244::8]:5353")

	n.flush(4,
		state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.244.1.7:5353")},
		state.Flow{Protocol: state.UDP, Service: at("[fd00:96::a]:53"), Endpoint: at("[fd00:244::8]:5353")},
		state.Flow{Protocol: state.TCP, Service: at("10.96.0.11:53"), Endpoint: at("10.244.1.7:5353")},
		state.Flow{Protocol: state.UDP, Service: at("10.96.0.11:54"), Endpoint: at("10.244.1.7:5353")},
		state.Flow{Protocol: state.UDP, Service: at("10.96.0.11:53"), Endpoint: at("10.244.1.7:5354")})
	n.sees(n.tracked(unix.AF_INET, state.UDP),
		"UDP 10.96.0.10:53 -> 10.244.1.8:5353", "UDP 10.96.0.10:53 -> 10.244.1.8:5353",
		"UDP 10.96.0.11:53 -> 10.244.1.7:5353", "UDP 10.96.0.11:53 -> 10.244.1.7:5353")
	n.sees(n.tracked(unix.AF_INET6, state.UDP),
		"UDP [fd00:96::a]:53 -> [fd00:244::7]:5353", "UDP [fd00:96::a]:53 -> [fd00:244::7]:5353")

	n.flush(4, state.Flow{Protocol: state.UDP, Service: at("10.96.0.11:53")}, state.Flow{Protocol: state.UDP, Service: at("[fd00:96::a]:53")})
	n.sees(n.tracked(unix.AF_INET, state.UDP),
		"UDP 10.96.0.10:53 -> 10.244.1.8:5353", "UDP 10.96.0.10:53 -> 10.244.1.8:5353")
	n.sees(n.tracked(unix.AF_INET6, state.UDP))
	n.flush(0, state.Flow{Protocol: state.UDP, Service: at("10.96.0.11:53")})
}

// track makes an entry without a packet.
func (n node) track(p state.Protocol, client, service, endpoint string) {
	n.t.Helper()
	n.trackAs(0, p, client, service, endpoint)
}

// confirmed is what all entries of the table are (IPS_CONFIRMED).
const confirmed = 1 << 3

func (n node) trackAs(status uint32, p state.Protocol, client, service, endpoint string) {
	n.t.Helper()
	var b netlink.Requests
	b.Begin(subsystem|nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.Raw(generic(state.FamilyOf(at(service).Addr()))...)
	b.Raw(direction(nl.CTA_TUPLE_ORIG, p, at(client), at(service))...)
	b.Raw(direction(nl.CTA_TUPLE_REPLY, p, at(endpoint), at(client))...)
	b.BigUint32(nl.CTA_TIMEOUT, 600)
	if status != 0 {
		b.BigUint32(nl.CTA_STATUS, status)
	}
	refused, err := n.maker.Do(n.t.Context(), &b)
	if err != nil || refused[0] != nil {
		n.t.Fatalf("making an entry: %v, %v", refused, err)
	}
}

func TestOtherProtocolsAndUntranslatedEntries(t *testing.T) {
	n := newNode(t)
	n.track(state.UDP, "203.0.113.9:40000", "10.96.0.10:53", "10.244.1.7:53")
	n.track(state.UDP, "203.0.113.9:40001", "10.96.0.10:53", "10.96.0.10:53")
	n.track(state.TCP, "203.0.113.9:40000", "10.96.0.10:53", "10.244.1.7:53")

	n.flush(1, state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.96.0.10:53")})
	n.sees(n.tracked(unix.AF_INET, state.UDP), "UDP 10.96.0.10:53 -> 10.244.1.7:53")
	n.flush(1, state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53")})
	n.sees(n.tracked(unix.AF_INET, state.TCP), "TCP 10.96.0.10:53 -> 10.244.1.7:53")
	n.flush(1, state.Flow{Protocol: state.TCP, Service: at("10.96.0.10:53")})
	n.sees(n.tracked(unix.AF_INET, state.TCP))
}

// What was answered is a connection with somebody who has the address elsewhere, and goes on. The kernel
// leaves it out, and so do we where it is too old for that.
func TestOfWhatWentUntranslatedOnlyTheUnansweredIsFlushed(t *testing.T) {
	n := newNode(t)
	for _, p := range []state.Protocol{state.TCP, state.SCTP} {
		early := state.Flow{Protocol: p, Service: at("10.96.0.10:53"), Endpoint: at("10.96.0.10:53")}
		n.track(p, "203.0.113.9:40000", "10.96.0.10:53", "10.96.0.10:53")
		n.trackAs(confirmed|answered, p, "203.0.113.9:40001", "10.96.0.10:53", "10.96.0.10:53")
		n.track(p, "203.0.113.9:40002", "10.96.0.10:53", "10.244.1.7:53")
		n.flush(1, early)
		port := map[state.Protocol]int{state.TCP: 53}[p] // the other library reads none of SCTP
		n.sees(n.tracked(unix.AF_INET, p),
			fmt.Sprintf("%v 10.96.0.10:%d -> 10.244.1.7:%[2]d", p, port), fmt.Sprintf("%v 10.96.0.10:%d -> 10.96.0.10:%[2]d", p, port))

		w := walks([]state.Flow{early})[0]
		if told := (entry{flow: early, answered: true}); w.holds(told) || !w.holds(entry{flow: early}) {
			t.Errorf("%v: an answered one is flushed: %v", early, w.holds(told))
		}
		w.silent = false // so that the kernel tells of both
		if got := n.walked(w); got != 1 {
			t.Errorf("%v: %d entries are told as answered, want 1", early, got)
		}
	}
}

// walked is how many entries of a walk the kernel tells as answered.
func (n node) walked(w walk) (count int) {
	n.t.Helper()
	n.conn.question.Reset()
	w.addDump(&n.conn.question)
	err := n.conn.socket.Dump(n.t.Context(), &n.conn.question, func() func([]byte) error {
		count = 0
		return func(body []byte) error {
			e, err := parseEntry(body)
			if e.answered {
				count++
			}
			return err
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return count
}

func TestManyFlowsTakeOneDumpAndFewCalls(t *testing.T) {
	n := newNode(t)
	const each = 1000
	for i := range uint16(each) {
		n.track(state.UDP, netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), 1024+i).String(), "10.96.0.10:53", "10.244.1.7:53")
		n.track(state.UDP, netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), 1024+i).String(), "10.96.0.10:54", "10.244.1.7:54")
	}
	before := n.conn.socket.Traffic()
	n.flush(each, state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.244.1.7:53")})
	after := n.conn.socket.Traffic()
	if requests := after.Requests - before.Requests; requests != each+1 {
		t.Errorf("%d requests, want one dump and %d deletions", requests, each)
	}
	if calls := after.Calls - before.Calls; calls > 1+each/500+1 {
		t.Errorf("%d sendmsg calls for %d deletions", calls, each)
	}
	if left := len(n.tracked(unix.AF_INET, state.UDP)); left != each {
		t.Errorf("%d entries are left, want %d", left, each)
	}
}

// What a filtered dump leaves in the kernel, no process has to read.
func TestTheKernelFiltersByProtocolAndPort(t *testing.T) {
	for _, c := range []struct {
		name  string
		track func(n node)
		flows []state.Flow
		want  int
	}{
		{
			"IPv4",
			func(n node) {
				n.track(state.UDP, "203.0.113.9:40000", "10.96.0.10:53", "10.244.1.7:53")
				n.track(state.UDP, "203.0.113.9:40000", "10.96.0.10:54", "10.244.1.7:54")
				n.track(state.TCP, "203.0.113.9:40000", "10.96.0.10:53", "10.244.1.7:53")
				n.track(state.UDP, "[2001:db8::9]:40000", "[fd00:96::a]:53", "[fd00:244::7]:53")
			},
			[]state.Flow{{Protocol: state.UDP, Service: at("10.96.0.10:53")}},
			1,
		},
		{
			"IPv6, and two ports",
			func(n node) {
				n.track(state.UDP, "[2001:db8::9]:40000", "[fd00:96::a]:53", "[fd00:244::7]:53")
				n.track(state.UDP, "[2001:db8::9]:40000", "[fd00:96::a]:54", "[fd00:244::7]:54")
				n.track(state.TCP, "[2001:db8::9]:40000", "[fd00:96::a]:53", "[fd00:244::7]:53")
				n.track(state.UDP, "203.0.113.9:40000", "10.96.0.10:53", "10.244.1.7:53")
			},
			[]state.Flow{{Protocol: state.UDP, Service: at("[fd00:96::a]:53")}, {Protocol: state.UDP, Service: at("[fd00:96::a]:54")}},
			2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			c.track(n)
			n.conn.question.Reset()
			walks(c.flows)[0].addDump(&n.conn.question)
			got := 0
			err := n.conn.socket.Dump(t.Context(), &n.conn.question, func() func([]byte) error {
				return func([]byte) error { got++; return nil }
			})
			if err != nil || got != c.want {
				t.Errorf("the kernel sent %d entries (%v), want %d", got, err, c.want)
			}
		})
	}
}

func TestNothingToFlushAsksNothing(t *testing.T) {
	n := newNode(t)
	n.flush(0)
	if calls := n.conn.socket.Traffic().Calls; calls != 0 {
		t.Errorf("%d calls", calls)
	}
}

func TestACancelledFlushDeletesNothing(t *testing.T) {
	n := newNode(t)
	n.track(state.UDP, "203.0.113.9:40000", "10.96.0.10:53", "10.244.1.7:53")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := n.conn.Flush(ctx, []state.Flow{{Protocol: state.UDP, Service: at("10.96.0.10:53")}})
	if got != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d, %v, want context.Canceled", got, err)
	}
	n.sees(n.tracked(unix.AF_INET, state.UDP), "UDP 10.96.0.10:53 -> 10.244.1.7:53")
}
