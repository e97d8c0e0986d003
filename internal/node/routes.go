// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// hop is a next hop of a default route.
type hop struct {
	address netip.Addr // invalid: anything behind the link
	link    int        // its index
}

// hops reads the next hops of the default routes of all tables: any of them leads away from the node.
func (c *Conn) hops(ctx context.Context) ([]hop, error) {
	c.requests.Reset()
	c.requests.Begin(unix.RTM_GETROUTE, 0)
	c.requests.Raw(make([]byte, unix.SizeofRtMsg)...) // of both families
	return dump(ctx, c, "default routes", func(body []byte) ([]hop, error) {
		hops, _, err := parseDefaultRoute(body)
		return hops, err
	})
}

// dump sends the request of c, and returns all that parse returns for the answers.
func dump[T any](ctx context.Context, c *Conn, what string, parse func([]byte) ([]T, error)) ([]T, error) {
	var list []T
	err := c.routes.Dump(ctx, &c.requests, func() func([]byte) error {
		list = nil
		return func(body []byte) error {
			some, err := parse(body)
			list = append(list, some...)
			return err
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return list, nil
}

// gatewaysOf returns the addresses that a Service could have, sorted and unique.
func gatewaysOf(hops []hop) []netip.Addr {
	gateways := []netip.Addr{}
	for _, h := range hops {
		if h.address.IsValid() && counts(h.address) {
			gateways = append(gateways, h.address)
		}
	}
	return unique(gateways, netip.Addr.Compare)
}

func linksOf(hops []hop) []int {
	var links []int
	for _, h := range hops {
		links = append(links, h.link)
	}
	return unique(links, cmp.Compare[int])
}

// parseDefaultRoute reads the body of a route message and reports whether it is a default route.
func parseDefaultRoute(body []byte) (hops []hop, is bool, err error) {
	if len(body) < unix.SizeofRtMsg {
		return nil, false, fmt.Errorf("route message of %d bytes", len(body))
	}
	family, length, kind := body[0], body[1], body[7]
	if length != 0 || kind != unix.RTN_UNICAST || family != unix.AF_INET && family != unix.AF_INET6 {
		return nil, false, nil
	}
	attributes, err := netlink.ParseAttributes(body[unix.SizeofRtMsg:])
	if err != nil {
		return nil, true, fmt.Errorf("route message: %w", err)
	}
	first, err := parseHop(attributes)
	if err != nil {
		return nil, true, err
	}
	for _, a := range attributes {
		if a.Type == unix.RTA_MULTIPATH {
			hops, err = parseHops(a.Value)
			return hops, true, err
		}
	}
	return []hop{first}, true, nil
}

// parseHops reads the struct rtnexthop of a route with several next hops.
func parseHops(raw []byte) ([]hop, error) {
	var hops []hop
	for len(raw) > 0 {
		if len(raw) < unix.SizeofRtNexthop {
			return nil, fmt.Errorf("next hop of %d bytes", len(raw))
		}
		length := int(binary.NativeEndian.Uint16(raw))
		if length < unix.SizeofRtNexthop || length > len(raw) {
			return nil, fmt.Errorf("next hop claims %d bytes of %d", length, len(raw))
		}
		attributes, err := netlink.ParseAttributes(raw[unix.SizeofRtNexthop:length])
		if err != nil {
			return nil, fmt.Errorf("next hop: %w", err)
		}
		h, err := parseHop(attributes)
		if err != nil {
			return nil, err
		}
		h.link = int(int32(binary.NativeEndian.Uint32(raw[4:])))
		hops = append(hops, h)
		raw = raw[min((length+unix.RTNH_ALIGNTO-1)&^(unix.RTNH_ALIGNTO-1), len(raw)):]
	}
	return hops, nil
}

// parseHop reads what a route and one of its next hops have in common. An IPv4 route through an IPv6 gateway has
// RTA_VIA: a family and an address.
func parseHop(attributes []netlink.Attribute) (hop, error) {
	var h hop
	for _, a := range attributes {
		raw := a.Value
		switch a.Type {
		case unix.RTA_OIF:
			h.link = int(int32(a.Uint32()))
			continue
		case unix.RTA_GATEWAY:
		case unix.RTA_VIA:
			raw = raw[min(2, len(raw)):]
		default:
			continue
		}
		address, ok := netip.AddrFromSlice(raw)
		if !ok {
			return hop{}, fmt.Errorf("route message with a gateway of %d bytes", len(raw))
		}
		h.address = address
	}
	return h, nil
}

// leastMTU is what every IPv4 host accepts. A device with less, such as a CAN bus, leads to no endpoints.
const leastMTU = 576

// device is a network device, as rtnetlink reports it.
type device struct {
	index int
	name  state.LinkName
	flags uint32
	mtu   uint32
}

func (d device) up() bool { return d.flags&unix.IFF_UP != 0 }

// carries returns the MTU of a device by which packets leave the node, and 0 for other devices.
func (d device) carries() uint32 {
	const ready = unix.IFF_UP | unix.IFF_RUNNING
	if d.flags&ready != ready || d.flags&unix.IFF_LOOPBACK != 0 || d.name == state.DummyLink || d.mtu < leastMTU {
		return 0
	}
	return d.mtu
}

// mtus holds the MTUs of the devices by which packets leave the node, by their indexes.
type mtus map[int]uint32

// least returns the smallest MTU; 0 if there are none.
func (m mtus) least() uint32 {
	if len(m) == 0 {
		return 0
	}
	return slices.Min(slices.Collect(maps.Values(m)))
}

func (c *Conn) mtus(ctx context.Context) (mtus, error) {
	const withoutCounters = 8 // RTEXT_FILTER_SKIP_STATS
	c.requests.Reset()
	c.requests.Begin(unix.RTM_GETLINK, 0)
	c.requests.Raw(make([]byte, unix.SizeofIfInfomsg)...)
	c.requests.Uint32(unix.IFLA_EXT_MASK, withoutCounters)
	devices, err := dump(ctx, c, "devices", func(body []byte) ([]device, error) {
		d, err := parseDevice(body)
		return []device{d}, err
	})
	list := mtus{}
	for _, d := range devices {
		if mtu := d.carries(); mtu > 0 {
			list[d.index] = mtu
		}
	}
	return list, err
}

// parseDevice reads the body of an RTM_NEWLINK or RTM_DELLINK message.
func parseDevice(body []byte) (device, error) {
	if len(body) < unix.SizeofIfInfomsg {
		return device{}, fmt.Errorf("link message of %d bytes", len(body))
	}
	attributes, err := netlink.ParseAttributes(body[unix.SizeofIfInfomsg:])
	if err != nil {
		return device{}, fmt.Errorf("link message: %w", err)
	}
	d := device{index: int(int32(binary.NativeEndian.Uint32(body[4:]))), flags: binary.NativeEndian.Uint32(body[8:])}
	for _, a := range attributes {
		switch a.Type {
		case unix.IFLA_IFNAME:
			d.name = state.LinkName(a.String())
		case unix.IFLA_MTU:
			d.mtu = a.Uint32()
		}
	}
	return d, nil
}
