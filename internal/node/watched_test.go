// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func event(kind uint16, body []byte) []byte {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = append(m, make([]byte, 10)...) // flags, sequence number, port
	return append(m, body...)
}

func attribute(kind uint16, value []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	a = append(binary.NativeEndian.AppendUint16(a, kind), value...)
	for len(a)%unix.NLMSG_ALIGNTO != 0 {
		a = append(a, 0)
	}
	return a
}

func addressEvent(kind uint16, device int, address string) []byte {
	a := netip.MustParseAddr(address)
	body := binary.NativeEndian.AppendUint32([]byte{0, byte(a.BitLen()), 0, 0}, uint32(device))
	return event(kind, append(body, attribute(unix.IFA_ADDRESS, a.AsSlice())...))
}

func linkEvent(kind uint16, family byte, device int, name string) []byte {
	body := append([]byte{family, 0, 0, 0}, binary.NativeEndian.AppendUint32(nil, uint32(device))...)
	body = append(body, make([]byte, 8)...) // flags, change
	return event(kind, append(body, attribute(unix.IFLA_IFNAME, append([]byte(name), 0))...))
}

func TestWhatEventsMean(t *testing.T) {
	const ours, other = 5, 6
	for _, c := range []struct {
		name   string
		before watched
		event  []byte
		after  watched
	}{
		{
			"an address of ours means nothing",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, ours, "10.96.0.1"),
			watched{device: ours},
		},
		{
			"nor does its removal",
			watched{device: ours}, addressEvent(unix.RTM_DELADDR, ours, "fd00:96::1"),
			watched{device: ours},
		},
		{
			"another device's address counts",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, other, "192.0.2.1"),
			watched{device: ours, stale: true},
		},
		{
			"and so does its removal",
			watched{device: ours}, addressEvent(unix.RTM_DELADDR, other, "2001:db8::1"),
			watched{device: ours, stale: true},
		},
		{
			"a pod's link-local address does not",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, other, "fe80::1"),
			watched{device: ours},
		},
		{
			"nor a loopback one",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, 1, "127.0.0.2"),
			watched{device: ours},
		},
		{
			"the device comes",
			watched{}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"),
			watched{device: ours, stale: true},
		},
		{
			"the device changes",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"),
			watched{device: ours},
		},
		{
			"the device goes",
			watched{device: ours}, linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"),
			watched{stale: true, lost: true},
		},
		{
			"the device gets another name",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs1"),
			watched{stale: true, lost: true},
		},
		{
			"another device gets the name",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "kube-ipvs0"),
			watched{device: other, stale: true, lost: true},
		},
		{
			"the device leaves a bridge",
			watched{device: ours}, linkEvent(unix.RTM_DELLINK, unix.AF_BRIDGE, ours, "kube-ipvs0"),
			watched{device: ours},
		},
		{
			"another device comes",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "veth1"),
			watched{device: ours},
		},
		{
			"another device goes",
			watched{device: ours}, linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, other, "veth1"),
			watched{device: ours},
		},
		{
			"something else happens",
			watched{device: ours}, event(unix.RTM_NEWROUTE, []byte{1, 2, 3, 4}),
			watched{device: ours},
		},
		{
			"two events in one datagram",
			watched{device: ours},
			append(linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"), linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "kube-ipvs0")...),
			watched{device: other, stale: true, lost: true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := c.before
			if err := w.take(c.event); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.after, w, cmp.AllowUnexported(watched{}), same()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatAnOverflowMeans(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now int
		lost        bool
	}{
		{"the device is the same", 5, 5, false},
		{"the device is gone", 5, 0, true},
		{"the device was made again", 5, 6, true},
		{"the device came", 0, 5, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := watched{device: c.before}
			w.overflow(c.now)
			want := watched{device: c.now, stale: true, lost: c.lost}
			if d := cmp.Diff(want, w, cmp.AllowUnexported(watched{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatIsNews(t *testing.T) {
	one, two := addrs("192.0.2.1"), addrs("192.0.2.1", "192.0.2.2")
	for _, c := range []struct {
		name   string
		before watched
		now    []netip.Addr
		event  Event
		worth  bool
	}{
		{"the first set", watched{stale: true}, one, Event{Addresses: one}, true},
		{"the first set, though empty", watched{stale: true}, addrs(), Event{Addresses: addrs()}, true},
		{"the same set again", watched{stale: true, addresses: one}, one, Event{Addresses: one}, false},
		{"another set", watched{stale: true, addresses: one}, two, Event{Addresses: two}, true},
		{"the same set without the device", watched{stale: true, lost: true, addresses: one}, one, Event{Addresses: one, LinkLost: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := c.before
			e, worth := w.news(c.now)
			if d := cmp.Diff(c.event, e, same()); d != "" || worth != c.worth {
				t.Errorf("worth an event: %v; %s", worth, d)
			}
			if d := cmp.Diff(watched{addresses: c.now}, w, cmp.AllowUnexported(watched{}), same()); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzTake(f *testing.F) {
	f.Add(addressEvent(unix.RTM_NEWADDR, 6, "192.0.2.1"))
	f.Add(linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, 5, "kube-ipvs0"))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		w := watched{device: 5}
		if err := w.take(datagram); err == nil && w.lost && !w.stale {
			t.Error("the device is lost, but nothing is stale")
		}
	})
}
