// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"net/netip"
	"slices"
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

// routeEvent returns the event of a unicast route to a network of that length, through hops.
func routeEvent(kind uint16, family, length byte, hops ...hop) []byte {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1], body[7] = family, length, unix.RTN_UNICAST
	var several []byte
	for _, h := range hops {
		raw := h.address.AsSlice()
		gateway := attribute(unix.RTA_GATEWAY, raw)
		if family == unix.AF_INET && h.address.Is6() {
			gateway = attribute(unix.RTA_VIA, append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), raw...))
		}
		link := binary.NativeEndian.AppendUint32(nil, uint32(h.link))
		if len(hops) == 1 {
			return event(kind, append(append(body, attribute(unix.RTA_OIF, link)...), gateway...))
		}
		several = binary.NativeEndian.AppendUint16(several, uint16(unix.SizeofRtNexthop+len(gateway)))
		several = append(append(append(several, 0, 0), link...), gateway...)
	}
	return event(kind, append(body, attribute(unix.RTA_MULTIPATH, several)...))
}

func hopTo(address string, link int) hop { return hop{netip.MustParseAddr(address), link} }

func TestNextHopsOfDefaultRoutes(t *testing.T) {
	for _, c := range []struct {
		name  string
		event []byte
		hops  []hop
		is    bool
	}{
		{"one", routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 0, hopTo("192.0.2.254", 6)), []hop{hopTo("192.0.2.254", 6)}, true},
		{"IPv4 through IPv6", routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 0, hopTo("2001:db8::1", 6)), []hop{hopTo("2001:db8::1", 6)}, true},
		{
			"several", routeEvent(unix.RTM_NEWROUTE, unix.AF_INET6, 0, hopTo("2001:db8::1", 6), hopTo("fe80::1", 7)),
			[]hop{hopTo("2001:db8::1", 6), hopTo("fe80::1", 7)}, true,
		},
		{"several, mixed", routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 0, hopTo("192.0.2.1", 6), hopTo("2001:db8::1", 7)), []hop{hopTo("192.0.2.1", 6), hopTo("2001:db8::1", 7)}, true},
		{"a network", routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 24, hopTo("192.0.2.254", 6)), nil, false},
		{"another family", routeEvent(unix.RTM_NEWROUTE, unix.AF_BRIDGE, 0, hopTo("192.0.2.254", 6)), nil, false},
	} {
		hops, is, err := parseDefaultRoute(c.event[unix.NLMSG_HDRLEN:])
		if err != nil || is != c.is || !slices.Equal(hops, c.hops) {
			t.Errorf("%s: %v, %v, %v; want %v", c.name, hops, is, err, c.hops)
		}
	}
	hops := []hop{hopTo("2001:db8::1", 6), hopTo("fe80::1", 7), hopTo("192.0.2.9", 6), {link: 8}, hopTo("192.0.2.9", 9)}
	if got := gatewaysOf(hops); !slices.Equal(got, addrs("192.0.2.9", "2001:db8::1")) {
		t.Errorf("gateways are %v", got)
	}
	if got := linksOf(hops); !slices.Equal(got, []int{6, 7, 8, 9}) {
		t.Errorf("links are %v", got)
	}
}

// eventCase is what an event makes of what is known.
type eventCase struct {
	name   string
	before watched
	event  []byte
	after  watched
}

// The indexes of the device of Service addresses and of another one.
const ours, other = 5, 6

func addressEvents() []eventCase {
	return []eventCase{
		{"an address of ours means nothing",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, ours, "10.96.0.1"), watched{device: ours}},
		{"nor does its removal",
			watched{device: ours}, addressEvent(unix.RTM_DELADDR, ours, "fd00:96::1"), watched{device: ours}},
		{"but that of the address that keeps its routes",
			watched{device: ours}, addressEvent(unix.RTM_DELADDR, ours, "127.0.0.73"), watched{device: ours, stale: true, lost: true}},
		{"which means nothing when it comes",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, ours, "127.0.0.73"), watched{device: ours}},
		{"nor at another device",
			watched{device: ours}, addressEvent(unix.RTM_DELADDR, other, "127.0.0.73"), watched{device: ours}},
		{"another device's address counts",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, other, "192.0.2.1"), watched{device: ours, stale: true}},
		{"and so does its removal",
			watched{device: ours}, addressEvent(unix.RTM_DELADDR, other, "2001:db8::1"), watched{device: ours, stale: true}},
		{"a pod's link-local address does not",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, other, "fe80::1"), watched{device: ours}},
		{"nor a loopback one",
			watched{device: ours}, addressEvent(unix.RTM_NEWADDR, 1, "127.0.0.2"), watched{device: ours}},
	}
}

func deviceEvents() []eventCase {
	return []eventCase{
		{"the device is set down",
			watched{device: ours, up: true}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"), watched{device: ours, stale: true, lost: true}},
		{"the device comes",
			watched{}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"), watched{device: ours, stale: true}},
		{"the device changes",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"), watched{device: ours}},
		{"the device goes",
			watched{device: ours}, linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"), watched{stale: true, lost: true}},
		{"the device gets another name",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, ours, "kube-ipvs1"), watched{stale: true, lost: true}},
		{"another device gets the name",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "kube-ipvs0"), watched{device: other, stale: true, lost: true}},
		{"the device leaves a bridge",
			watched{device: ours}, linkEvent(unix.RTM_DELLINK, unix.AF_BRIDGE, ours, "kube-ipvs0"), watched{device: ours}},
		{"another device comes",
			watched{device: ours}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "veth1"), watched{device: ours}},
		{"another device goes",
			watched{device: ours}, linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, other, "veth1"), watched{device: ours}},
		{"the device of a default route goes down",
			watched{device: ours, uplinks: []int{other}}, linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "eth0"), watched{device: ours, uplinks: []int{other}, stale: true}},
		{"the device of a default route goes",
			watched{device: ours, uplinks: []int{other}}, linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, other, "eth0"), watched{device: ours, uplinks: []int{other}, stale: true}},
		{"two events in one datagram",
			watched{device: ours}, append(linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, ours, "kube-ipvs0"), linkEvent(unix.RTM_NEWLINK, unix.AF_UNSPEC, other, "kube-ipvs0")...), watched{device: other, stale: true, lost: true}},
	}
}

func otherEvents() []eventCase {
	return []eventCase{
		{"a default route comes",
			watched{device: ours}, routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 0, hopTo("192.0.2.254", other)), watched{device: ours, stale: true}},
		{"a default route goes",
			watched{device: ours}, routeEvent(unix.RTM_DELROUTE, unix.AF_INET6, 0, hopTo("fe80::1", other)), watched{device: ours, stale: true}},
		{"another route comes",
			watched{device: ours}, routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 32, hopTo("192.0.2.254", other)), watched{device: ours}},
		{"something else happens",
			watched{device: ours}, event(unix.RTM_NEWNEIGH, []byte{1, 2, 3, 4}), watched{device: ours}},
	}
}

func TestWhatEventsMean(t *testing.T) {
	for _, c := range slices.Concat(addressEvents(), deviceEvents(), otherEvents()) {
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
			w.overflow(c.now, false)
			want := watched{device: c.now, stale: true, lost: c.lost}
			if d := cmp.Diff(want, w, cmp.AllowUnexported(watched{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestADeviceThatIsSetDownLosesItsRoutes(t *testing.T) {
	for _, c := range []struct{ before, now, lost bool }{{true, false, true}, {false, false, false}, {false, true, false}, {true, true, false}} {
		w := watched{device: 5, up: c.before}
		w.set(c.now)
		if d := cmp.Diff(watched{device: 5, up: c.now, stale: c.lost, lost: c.lost}, w, cmp.AllowUnexported(watched{})); d != "" {
			t.Errorf("%+v: %s", c, d)
		}
		w = watched{device: 5, up: c.before}
		w.overflow(5, c.now)
		if d := cmp.Diff(watched{device: 5, up: c.now, stale: true, lost: c.lost}, w, cmp.AllowUnexported(watched{})); d != "" {
			t.Errorf("%+v, not seen: %s", c, d)
		}
	}
}

// The node's own packets are limited to what all of its devices carry.
func TestWhatDevicesCarry(t *testing.T) {
	const ready = unix.IFF_UP | unix.IFF_RUNNING
	w := watched{device: 5, last: Event{MTU: 1500}, mtus: mtus{6: 1500}}
	for _, c := range []struct {
		name  string
		kind  uint16
		d     device
		least uint32
	}{
		{"more", unix.RTM_NEWLINK, device{7, "eth1", ready, 9001}, 1500},
		{"less, but it is down", unix.RTM_NEWLINK, device{8, "wg0", unix.IFF_RUNNING, 1420}, 1500},
		{"less, but nothing is behind it", unix.RTM_NEWLINK, device{8, "docker0", unix.IFF_UP, 1420}, 1500},
		{"less, but it is loopback", unix.RTM_NEWLINK, device{1, "lo", ready | unix.IFF_LOOPBACK, 1420}, 1500},
		{"less, but it is ours", unix.RTM_NEWLINK, device{5, "kube-ipvs0", ready, 1420}, 1500},
		{"too little for IPv4", unix.RTM_NEWLINK, device{8, "can0", ready, 72}, 1500},
		{"less", unix.RTM_NEWLINK, device{8, "wg0", ready, 1420}, 1420},
		{"it changes", unix.RTM_NEWLINK, device{8, "wg0", ready, 1400}, 1400},
		{"it goes", unix.RTM_DELLINK, device{8, "wg0", ready, 1400}, 1500},
		{"and so does the next", unix.RTM_DELLINK, device{6, "eth0", ready, 1500}, 9001},
	} {
		w.stale, w.up = false, true
		if err := w.take(deviceEvent(c.kind, c.d)); err != nil {
			t.Fatal(err)
		}
		if w.mtus.least() != c.least || w.stale != (c.least != 1500) {
			t.Errorf("%s: all carry %d, stale %v; want %d", c.name, w.mtus.least(), w.stale, c.least)
		}
	}
}

func deviceEvent(kind uint16, d device) []byte {
	body := binary.NativeEndian.AppendUint32(make([]byte, 4), uint32(d.index))
	body = append(binary.NativeEndian.AppendUint32(body, d.flags), 0, 0, 0, 0)
	body = append(body, attribute(unix.IFLA_IFNAME, append([]byte(d.name), 0))...)
	return event(kind, append(body, attribute(unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, d.mtu))...))
}

func TestWhatIsNews(t *testing.T) {
	one, two, wider := prefixes("192.0.2.1"), prefixes("192.0.2.1", "192.0.2.2"), prefixes("192.0.2.1/24")
	via, other := []hop{hopTo("192.0.2.254", 6)}, []hop{hopTo("192.0.2.253", 7)}
	known := watched{
		stale: true, uplinks: []int{6}, known: true,
		last: Event{Addresses: Usable(one), Networks: Networks(one), Gateways: gatewaysOf(via), MTU: 1500},
	}
	lost := known
	lost.lost = true
	for _, c := range []struct {
		name   string
		before watched
		now    []netip.Prefix
		hops   []hop
		mtus   mtus
		worth  bool
	}{
		{"the first set", watched{stale: true}, one, via, mtus{6: 1500}, true},
		{"the first set, though empty", watched{stale: true}, prefixes(), nil, nil, true},
		{"the same set again", known, one, via, mtus{6: 1500}, false},
		{"another set", known, two, via, mtus{6: 1500}, true},
		{"the same set in another network", known, wider, via, mtus{6: 1500}, true},
		{"another gateway", known, one, other, mtus{6: 1500}, true},
		{"no gateway", known, one, nil, mtus{6: 1500}, true},
		{"the same gateway through another device", known, one, []hop{hopTo("192.0.2.254", 7)}, mtus{6: 1500}, false},
		{"the same set without the device", lost, one, via, mtus{6: 1500}, true},
		{"a device that carries more", known, one, via, mtus{6: 1500, 7: 9001}, false},
		{"a device that carries less", known, one, via, mtus{6: 1500, 7: 1450}, true},
		{"no device", known, one, via, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := c.before
			e, worth := w.news(c.now, c.hops, c.mtus)
			want := Event{Addresses: Usable(c.now), Networks: Networks(c.now), Gateways: gatewaysOf(c.hops), MTU: c.mtus.least(), LinkLost: c.before.lost}
			if d := cmp.Diff(want, e, same()); d != "" || worth != c.worth {
				t.Errorf("worth an event: %v; %s", worth, d)
			}
			after := watched{known: true, last: want, uplinks: linksOf(c.hops), mtus: c.mtus}
			if d := cmp.Diff(after, w, cmp.AllowUnexported(watched{}), same()); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzTake(f *testing.F) {
	f.Add(addressEvent(unix.RTM_NEWADDR, 6, "192.0.2.1"))
	f.Add(linkEvent(unix.RTM_DELLINK, unix.AF_UNSPEC, 5, "kube-ipvs0"))
	f.Add(routeEvent(unix.RTM_NEWROUTE, unix.AF_INET, 0, hopTo("192.0.2.1", 6), hopTo("2001:db8::1", 7)))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		w := watched{device: 5}
		if err := w.take(datagram); err == nil && w.lost && !w.stale {
			t.Error("the device is lost, but nothing is stale")
		}
	})
}
