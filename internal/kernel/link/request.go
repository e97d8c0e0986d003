// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type request struct {
	verb   string
	encode func(b *netlink.Requests, device int, r row)

	// met reports whether a refusal means that a row was as desired before, or that another request is right for it.
	met func(refusal error) bool
	// ifMet and ifDone are the marks of a row for which that is so, and of one that was changed.
	ifMet, ifDone mark

	backward bool // IPv6 rows
}

// assigning gives an address to the device.
//
// A dummy is NOARP, so that the kernel looks for no duplicates of an IPv6 address in either case. With IFA_F_NODAD the
// address is the source of what the node sends to it at once, but local only when a work queue of the kernel has come
// to it (addrconf_dad_work): answers in between are lost. Without, it is tentative until then, and no source
// (ipv6_get_saddr_eval). But of thousands at once a dump lacks some that the queue has not come to (6 to 74 of 5,000,
// seen on 6.1), so these are not tentative.
func assigning(tentative bool) request {
	return request{verb: "adding address", met: isThere, ifMet: found, encode: func(b *netlink.Requests, device int, r row) {
		flags := 0
		if !r.key.Is4() && !tentative {
			flags = unix.IFA_F_NODAD
		}
		b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		addAddress(b, device, r.key.Addr, flags, unix.RT_SCOPE_UNIVERSE)
	}}
}

func unassigning() request {
	return request{verb: "removing address", met: isGone, ifDone: found, backward: true, encode: func(b *netlink.Requests, device int, r row) {
		b.Begin(unix.RTM_DELADDR, 0)
		addAddress(b, device, r.key.Addr, 0, unix.RT_SCOPE_UNIVERSE)
	}}
}

func routing() request {
	return request{verb: "adding route to", met: isThere, ifMet: found | routed, encode: func(b *netlink.Requests, device int, r row) {
		addRoute(b, device, r, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	}}
}

// rerouting puts a route in the place of one with another source. Packets meet one or the other.
func rerouting() request {
	return request{verb: "changing route to", met: isMissing, ifDone: found, encode: func(b *netlink.Requests, device int, r row) {
		addRoute(b, device, r, unix.NLM_F_REPLACE)
	}}
}

// unrouting removes our route, whatever its source is.
func unrouting() request {
	return request{verb: "removing route to", met: isGone, ifDone: found, encode: func(b *netlink.Requests, device int, r row) {
		b.Begin(unix.RTM_DELROUTE, 0)
		addLocal(b, device, r.key.Addr, state.RouteMetric)
	}}
}

// limiting puts a limit before all routes to the address.
func limiting() request {
	return request{verb: "limiting the MTU of", met: isThere, ifMet: found, encode: func(b *netlink.Requests, device int, r row) {
		b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE)
		addLocal(b, device, r.key.Addr, 0)
		addMTU(b, r.limit())
	}}
}

// unlimiting removes the first route of ours with an MTU: a limit, if there is one.
func unlimiting(ifMet, ifDone mark, mtu func(row) uint32) request {
	return request{verb: "lifting the MTU of", met: isGone, ifMet: ifMet, ifDone: ifDone, encode: func(b *netlink.Requests, device int, r row) {
		b.Begin(unix.RTM_DELROUTE, 0)
		addLocal(b, device, r.key.Addr, 0)
		addMTU(b, mtu(r))
	}}
}

func isThere(refusal error) bool { return errors.Is(refusal, fs.ErrExist) }

func isMissing(refusal error) bool { return errors.Is(refusal, unix.ENOENT) }

// isGone knows the answers for an address, a route and a device.
func isGone(refusal error) bool {
	return errors.Is(refusal, unix.EADDRNOTAVAIL) || errors.Is(refusal, unix.ESRCH) || errors.Is(refusal, unix.ENODEV)
}
