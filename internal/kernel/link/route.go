// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// route is one route, as far as the store of addresses looks at it.
type route struct {
	table, protocol, kind uint8
	metric                uint32
	device                int
	to                    netip.Addr
	bits                  int
	source                netip.Addr
	mtu                   uint32 // 0: that of the device
}

// binds says whether the route makes an address local on the device, and the protocol made it: that of the
// kernel for addresses that it has, or ours.
func (r route) binds(device int, protocol uint8) bool {
	ours := protocol != state.RouteProtocol || r.metric == state.RouteMetric || r.limits()
	return r.table == unix.RT_TABLE_LOCAL && r.kind == unix.RTN_LOCAL && r.device == device &&
		r.to.IsValid() && r.bits == r.to.BitLen() && r.protocol == protocol && ours
}

func destinations(routes []route) []state.Address {
	list := make([]state.Address, len(routes))
	for i, r := range routes {
		list[i] = state.Address{Addr: r.to}
	}
	return list
}

// parseRoute reads the body of an RTM_NEWROUTE message. One of another family is the zero route.
func parseRoute(body []byte) (route, error) {
	if len(body) < unix.SizeofRtMsg {
		return route{}, fmt.Errorf("route message of %d bytes", len(body))
	}
	if body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
		return route{}, nil
	}
	attributes, err := netlink.ParseAttributes(body[unix.SizeofRtMsg:])
	if err != nil {
		return route{}, fmt.Errorf("route message: %w", err)
	}
	r := route{table: body[4], protocol: body[5], kind: body[7], bits: int(body[1])}
	for _, a := range attributes {
		switch a.Type {
		case unix.RTA_OIF:
			r.device = int(int32(a.Uint32()))
		case unix.RTA_PRIORITY:
			r.metric = a.Uint32()
		case unix.RTA_DST:
			r.to, err = routeAddress(a.Value)
		case unix.RTA_PREFSRC:
			r.source, err = routeAddress(a.Value)
		case unix.RTA_METRICS:
			r.mtu, err = routeMTU(a.Value)
		}
		if err != nil {
			return route{}, err
		}
	}
	return r, nil
}

func routeMTU(raw []byte) (uint32, error) {
	metrics, err := netlink.ParseAttributes(raw)
	if err != nil {
		return 0, fmt.Errorf("metrics of a route: %w", err)
	}
	for _, m := range metrics {
		if m.Type == unix.RTAX_MTU {
			return m.Uint32(), nil
		}
	}
	return 0, nil
}

func routeAddress(raw []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return a, fmt.Errorf("route message with an address of %d bytes", len(raw))
	}
	return a, nil
}

// addRouteDump appends the request for the routes of both families that a protocol made in the table local of
// a device. An old kernel tells all routes.
func addRouteDump(b *netlink.Requests, device int, protocol uint8) {
	b.Begin(unix.RTM_GETROUTE, 0)
	b.Raw(routeHeader(unix.AF_UNSPEC, 0, protocol, unix.RT_SCOPE_UNIVERSE)...)
	b.Uint32(unix.RTA_OIF, uint32(device))
}

// addRoute appends the request for a route.
func addRoute(b *netlink.Requests, device int, r row, flags uint16) {
	b.Begin(unix.RTM_NEWROUTE, flags)
	addLocal(b, device, r.key.Addr, state.RouteMetric)
	if r.want.Source.IsValid() {
		b.Bytes(unix.RTA_PREFSRC, r.want.Source.AsSlice())
	}
	addMTU(b, r.want.MTU)
}

func addMTU(b *netlink.Requests, mtu uint32) {
	if mtu > 0 {
		b.Nest(unix.RTA_METRICS, func() { b.Uint32(unix.RTAX_MTU, mtu) })
	}
}

// addRouteRemoval appends the request to remove our route to a, whatever its source is.
func addRouteRemoval(b *netlink.Requests, device int, a netip.Addr) {
	b.Begin(unix.RTM_DELROUTE, 0)
	addLocal(b, device, a, state.RouteMetric)
}

func addLocal(b *netlink.Requests, device int, a netip.Addr, metric uint32) {
	b.Raw(routeHeader(netlink.FamilyNumber(state.FamilyOf(a)), a.BitLen(), state.RouteProtocol, unix.RT_SCOPE_HOST)...)
	b.Bytes(unix.RTA_DST, a.AsSlice())
	b.Uint32(unix.RTA_OIF, uint32(device))
	if metric > 0 {
		b.Uint32(unix.RTA_PRIORITY, metric)
	}
}

// routeHeader is a struct rtmsg for the table local.
func routeHeader(family uint8, bits int, protocol, scope uint8) []byte {
	h := []byte{family, byte(bits), 0, 0, unix.RT_TABLE_LOCAL, protocol, scope, unix.RTN_LOCAL}
	return binary.NativeEndian.AppendUint32(h, 0)
}
