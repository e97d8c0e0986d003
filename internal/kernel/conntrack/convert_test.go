// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// attribute is one attribute with its padding; several values are nested ones.
func attribute(kind uint16, values ...[]byte) []byte {
	length := unix.SizeofNlAttr
	for _, v := range values {
		length += len(v)
	}
	a := binary.NativeEndian.AppendUint16(nil, uint16(length))
	a = binary.NativeEndian.AppendUint16(a, kind)
	for _, v := range values {
		a = append(a, v...)
	}
	for len(a)%unix.NLMSG_ALIGNTO != 0 {
		a = append(a, 0)
	}
	return a
}

func port(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// direction is one direction of a connection as the kernel writes it.
func direction(kind uint16, protocol state.Protocol, from, to netip.AddrPort) []byte {
	source, destination := uint16(nl.CTA_IP_V4_SRC), uint16(nl.CTA_IP_V4_DST)
	if from.Addr().Is6() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	return attribute(kind|unix.NLA_F_NESTED,
		attribute(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED,
			attribute(source, from.Addr().AsSlice()), attribute(destination, to.Addr().AsSlice())),
		attribute(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED,
			attribute(nl.CTA_PROTO_NUM, []byte{byte(protocol)}),
			attribute(nl.CTA_PROTO_SRC_PORT, port(from.Port())), attribute(nl.CTA_PROTO_DST_PORT, port(to.Port()))),
	)
}

// message is the body of what the kernel sends for a connection from client to the flow's Service.
func message(f state.Flow, client string) []byte {
	body := generic(state.FamilyOf(f.Service.Addr()))
	body = append(body, direction(nl.CTA_TUPLE_ORIG, f.Protocol, at(client), f.Service)...)
	body = append(body, direction(nl.CTA_TUPLE_REPLY, f.Protocol, f.Endpoint, at(client))...)
	body = append(body, attribute(nl.CTA_STATUS, []byte{0, 0, 1, 8})...)
	body = append(body, attribute(nl.CTA_ZONE, []byte{0, 5})...)
	return append(body, attribute(nl.CTA_ID, []byte{1, 2, 3, 4})...)
}

func examples() map[string]state.Flow {
	return map[string]state.Flow{
		"203.0.113.9:40000":    {Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.244.1.7:5353")},
		"[2001:db8::9]:40000":  {Protocol: state.UDP, Service: at("[fd00:96::a]:53"), Endpoint: at("[fd00:244::7]:5353")},
		"198.51.100.77:65535":  {Protocol: state.SCTP, Service: at("192.0.2.1:30000"), Endpoint: at("192.0.2.1:1")},
		"[2001:db8::77]:65535": {Protocol: state.TCP, Service: at("[fd00:1::1]:30000"), Endpoint: at("[fd00:1::1]:1")},
	}
}

func TestParseEntryFindsServiceAndEndpoint(t *testing.T) {
	for client, want := range examples() {
		got, err := parseEntry(message(want, client))
		if err != nil {
			t.Fatal(err)
		}
		if got.flow != want {
			t.Errorf("got  %v\nwant %v", got.flow, want)
		}
		if d := cmp.Diff([][]byte{{0, 5}, {1, 2, 3, 4}}, [][]byte{got.zone, got.id}); d != "" {
			t.Error(d)
		}
	}
}

func TestParseEntryRefusesNonsense(t *testing.T) {
	whole := message(state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.244.1.7:5353")}, "203.0.113.9:40000")
	there := direction(nl.CTA_TUPLE_ORIG, state.UDP, at("203.0.113.9:40000"), at("10.96.0.10:53"))
	back := direction(nl.CTA_TUPLE_REPLY, state.UDP, at("10.244.1.7:5353"), at("203.0.113.9:40000"))
	odd := attribute(nl.CTA_TUPLE_REPLY, attribute(nl.CTA_TUPLE_IP, attribute(nl.CTA_IP_V4_SRC, []byte{1, 2, 3})))
	head := generic(state.IPv4)
	for name, body := range map[string][]byte{
		"nothing":                   nil,
		"no directions":             head,
		"no original direction":     append(head[:4:4], back...),
		"no reply direction":        append(head[:4:4], there...),
		"an address of three bytes": append(append(head[:4:4], there...), odd...),
		"cut off":                   whole[:len(whole)-20],
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseEntry(body); err == nil {
				t.Errorf("got %v, want an error", got.flow)
			}
		})
	}
}

func FuzzParseEntry(f *testing.F) {
	for client, flow := range examples() {
		f.Add(message(flow, client))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseEntry(body)
		if err != nil {
			return
		}
		if len(e.original) == 0 || !e.flow.Service.IsValid() || !e.flow.Endpoint.IsValid() {
			t.Errorf("an entry without a name would delete everything: %v", e)
		}
	})
}

func TestAPassIsOneFamilyAndProtocol(t *testing.T) {
	dns := state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.244.1.7:53")}
	dnsToAny := state.Flow{Protocol: state.UDP, Service: at("10.96.0.11:53")}
	dns6 := state.Flow{Protocol: state.UDP, Service: at("[fd00:96::a]:53")}
	ntp6 := state.Flow{Protocol: state.UDP, Service: at("[fd00:96::a]:123")}
	sctp := state.Flow{Protocol: state.SCTP, Service: at("10.96.0.10:53")}

	want := []pass{
		{kind{state.IPv4, state.UDP, false}, 53, map[state.Flow]bool{dns: true, dnsToAny: true}},
		{kind{state.IPv4, state.SCTP, false}, 53, map[state.Flow]bool{sctp: true}},
		{kind{state.IPv6, state.UDP, false}, 0, map[state.Flow]bool{dns6: true, ntp6: true}},
	}
	got := passes([]state.Flow{ntp6, dns, sctp, dns6, dnsToAny, dns})
	same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if d := cmp.Diff(want, got, cmp.AllowUnexported(pass{}, kind{}), same); d != "" {
		t.Error(d)
	}
	if got := passes(nil); len(got) != 0 {
		t.Errorf("no flows need %v", got)
	}
}

func TestAPassMatchesItsFlowsExactly(t *testing.T) {
	one := state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:53"), Endpoint: at("10.244.1.7:53")}
	any := state.Flow{Protocol: state.UDP, Service: at("10.96.0.11:53")}
	p := passes([]state.Flow{one, any})[0]
	for _, c := range []struct {
		flow state.Flow
		want bool
	}{
		{one, true},
		{state.Flow{Protocol: state.UDP, Service: one.Service, Endpoint: at("10.244.1.8:53")}, false},
		{state.Flow{Protocol: state.UDP, Service: one.Service, Endpoint: at("10.244.1.7:54")}, false},
		{state.Flow{Protocol: state.UDP, Service: at("10.96.0.10:54"), Endpoint: one.Endpoint}, false},
		{state.Flow{Protocol: state.TCP, Service: one.Service, Endpoint: one.Endpoint}, false},
		{state.Flow{Protocol: state.UDP, Service: any.Service, Endpoint: at("10.244.1.8:53")}, true},
		{state.Flow{Protocol: state.UDP, Service: any.Service, Endpoint: any.Service}, true},
		{state.Flow{Protocol: state.TCP, Service: any.Service, Endpoint: one.Endpoint}, false},
	} {
		if got := p.matches(entry{flow: c.flow}); got != c.want {
			t.Errorf("%v: got %v, want %v", c.flow, got, c.want)
		}
	}
}

func TestOnlyWhatWasDeletedByUsCounts(t *testing.T) {
	gone := &netlink.Error{Errno: unix.ENOENT}
	busy := &netlink.Error{Errno: unix.EBUSY}
	broken := errors.New("no answer")

	if n, err := count([]error{nil, gone, nil}, nil); n != 2 || err != nil {
		t.Errorf("got %d, %v, want 2 and no error", n, err)
	}
	if n, err := count([]error{nil, busy, gone}, broken); n != 1 || !errors.Is(err, unix.EBUSY) || !errors.Is(err, broken) {
		t.Errorf("got %d, %v, want 1 and both errors", n, err)
	}
}
