// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
)

// request is one kind of request that is made for many rows.
type request struct {
	verb   string
	encode func(b *netlink.Requests, device int, r row)

	// met knows the refusals that mean that a row was as wished before, or that another request is right for
	// it.
	met func(refusal error) bool
	// The marks of a row for which that is so, and of one that was changed.
	ifMet, ifDone mark

	backward bool // IPv6 rows
}

func assigning(tentative bool) request {
	return request{"adding address", func(b *netlink.Requests, device int, r row) {
		addBind(b, device, r.key.Addr, tentative)
	}, isThere, found, 0, false}
}

func unassigning() request {
	return request{"removing address", func(b *netlink.Requests, device int, r row) {
		addUnbind(b, device, r.key.Addr)
	}, isGone, 0, found, true}
}

func routing() request {
	return request{"adding route to", func(b *netlink.Requests, device int, r row) {
		addRoute(b, device, r, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	}, isThere, found | routed, 0, false}
}

// rerouting puts a route in the place of one of another source. Packets meet one or the other.
func rerouting() request {
	return request{"changing route to", func(b *netlink.Requests, device int, r row) {
		addRoute(b, device, r, unix.NLM_F_REPLACE)
	}, isMissing, 0, found, false}
}

func unrouting() request {
	return request{"removing route to", func(b *netlink.Requests, device int, r row) {
		addRouteRemoval(b, device, r.key.Addr)
	}, isGone, 0, found, false}
}

func isThere(refusal error) bool { return errors.Is(refusal, fs.ErrExist) }

func isMissing(refusal error) bool { return errors.Is(refusal, unix.ENOENT) }

// isGone knows the answers for an address, a route and a device.
func isGone(refusal error) bool {
	return errors.Is(refusal, unix.EADDRNOTAVAIL) || errors.Is(refusal, unix.ESRCH) || errors.Is(refusal, unix.ENODEV)
}
