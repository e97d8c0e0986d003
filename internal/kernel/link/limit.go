// SPDX-License-Identifier: Apache-2.0

package link

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A limit is a route of ours with an MTU, before the one that the kernel makes of an IPv4 address of the
// device. The kernel's has no metric, and neither has a limit: only so can it stand before that.

// limits says whether a route of ours is a limit.
func (r route) limits() bool { return r.to.Is4() && r.metric == 0 && r.mtu > 0 }

// limited says whether a limit is thought to be there.
func (r row) limited() bool { return r.key.Is4() && r.had.Means == state.Assigned && r.had.MTU > 0 }

// limit is the MTU that is wished of the limit; 0: none is.
func (r row) limit() uint32 {
	if !r.key.Is4() || r.want.Means != state.Assigned {
		return 0
	}
	return r.want.MTU
}

// lower takes away the limits that are thought to be there and not wished.
func (t *task) lower(l lot) {
	if l.there {
		unwished := func(r row) bool { return r.limited() && r.limit() != r.had.MTU }
		t.run(l, l.where(0, failed, unwished), lifting(doubtful, 0, func(r row) uint32 { return r.had.MTU }))
	}
}

// lift takes away what other limits there are that are not wished, of rows of which it is not known. These
// are few, or else all change. If the routes can't be listed, the next audit shows them.
func (t *task) lift(l lot) {
	some := l.unknown()
	if len(some) == 0 {
		return
	}
	routes, err := t.c.routes(t.ctx, t.device.index, state.RouteProtocol)
	if err != nil {
		return
	}
	limits := map[state.Address][]uint32{}
	for _, r := range routes {
		if r.limits() {
			a := state.Address{Addr: r.to}
			limits[a] = append(limits[a], r.mtu)
		}
	}
	for _, i := range some {
		r := l.at(i)
		limits[r.key] = slices.DeleteFunc(limits[r.key], func(mtu uint32) bool { return mtu == r.limit() })
	}
	for n := 0; len(some) > 0; n++ {
		some = slices.DeleteFunc(some, func(i int) bool { return len(limits[l.at(i).key]) <= n })
		t.run(l, some, lifting(0, found, func(r row) uint32 { return limits[r.key][n] }))
	}
}

// unknown are the rows that may have a limit that nobody knew of: those that should not have been there, and
// those that were not as they were thought to be.
func (l lot) unknown() []int {
	if !l.there {
		return l.where(found, failed, func(r row) bool { return r.key.Is4() })
	}
	is := func(routed bool) func(row) bool {
		return func(r row) bool { return r.key.Is4() && !r.limited() && (r.had.Means == state.Routed) == routed }
	}
	return slices.Concat(
		l.where(doubtful, failed, func(r row) bool { return r.key.Is4() }),
		l.where(0, failed|doubtful, is(false)),
		l.where(0, failed|doubtful|found, is(true)),
	)
}

// limiting puts a limit before all routes to the address.
func limiting() request {
	return request{"limiting the MTU of", func(b *netlink.Requests, device int, r row) {
		b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE)
		addLocal(b, device, r.key.Addr, 0)
		addMTU(b, r.limit())
	}, isThere, found, 0, false}
}

// lifting takes away the first route of ours with an MTU: a limit, if there is one.
func lifting(ifMet, ifDone mark, mtu func(row) uint32) request {
	return request{"lifting the MTU of", func(b *netlink.Requests, device int, r row) {
		b.Begin(unix.RTM_DELROUTE, 0)
		addLocal(b, device, r.key.Addr, 0)
		addMTU(b, mtu(r))
	}, isGone, ifMet, ifDone, false}
}
