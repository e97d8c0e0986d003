// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestFlushDeletesTheGivenFlowsThroughIPVS(t *testing.T) {
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

// confirmed is a status bit of all entries of the table (IPS_CONFIRMED).
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

// What was answered is a connection with another host that has the address, and goes on. The kernel leaves it out, and
// so do we where it is too old for that.
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

		one := passes([]state.Flow{early})[0]
		if met := (entry{flow: early, answered: true}); one.matches(met) || !one.matches(entry{flow: early}) {
			t.Errorf("%v: an answered one is flushed: %v", early, one.matches(met))
		}
		one.unanswered = false // so that the kernel sends both
		if got := n.answered(one); got != 1 {
			t.Errorf("%v: %d entries are shown as answered, want 1", early, got)
		}
	}
}

// answered returns how many entries of a pass the kernel shows as answered.
func (n node) answered(p pass) (count int) {
	n.t.Helper()
	n.conn.dump.Reset()
	p.addDump(&n.conn.dump)
	err := n.conn.socket.Dump(n.t.Context(), &n.conn.dump, func() func([]byte) error {
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
			n.conn.dump.Reset()
			passes(c.flows)[0].addDump(&n.conn.dump)
			got := 0
			err := n.conn.socket.Dump(t.Context(), &n.conn.dump, func() func([]byte) error {
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
