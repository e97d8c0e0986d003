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

// route is one route, as far as the store of addresses needs it.
type route struct {
	table, protocol, kind uint8
	metric                uint32
	device                int
	to                    netip.Addr
	bits                  int
	source                netip.Addr
	mtu                   uint32 // 0: that of the device
}

// binds reports whether the route makes an address local on the device and was made by the protocol: the kernel's, for
// addresses of the device, or ours.
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
	if len(body) > 0 && netlink.FamilyOf(uint16(body[0])) == 0 {
		return route{}, nil
	}
	attributes, err := netlink.ParseBody(body, unix.SizeofRtMsg)
	if err != nil {
		return route{}, fmt.Errorf("route: %w", err)
	}
	metrics, err := attributes.Get(unix.RTA_METRICS).Nested()
	if err != nil {
		return route{}, fmt.Errorf("metrics of a route: %w", err)
	}
	r := route{
		table: body[4], protocol: body[5], kind: body[7], bits: int(body[1]),
		device: int(int32(attributes.Get(unix.RTA_OIF).Uint32())),
		metric: attributes.Get(unix.RTA_PRIORITY).Uint32(),
		mtu:    metrics.Get(unix.RTAX_MTU).Uint32(),
	}
	if r.to, err = routeAddress(attributes.Get(unix.RTA_DST)); err != nil {
		return route{}, err
	}
	r.source, err = routeAddress(attributes.Get(unix.RTA_PREFSRC))
	return r, err
}

func routeAddress(a netlink.Attribute) (netip.Addr, error) {
	address, ok := netip.AddrFromSlice(a.Value)
	if !ok && a.Value != nil {
		return address, fmt.Errorf("route message with an address of %d bytes", len(a.Value))
	}
	return address, nil
}

// addRouteDump appends the request for the routes of a protocol in the table local. An old kernel sends all.
func addRouteDump(b *netlink.Requests, device int, protocol uint8) {
	b.Begin(unix.RTM_GETROUTE, 0)
	b.Raw(routeHeader(unix.AF_UNSPEC, 0, protocol, unix.RT_SCOPE_UNIVERSE)...)
	b.Uint32(unix.RTA_OIF, uint32(device))
}

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
