// SPDX-License-Identifier: Apache-2.0

package link

import (
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A limit is a route of ours with an MTU, before the one that the kernel makes of an IPv4 address of the device. It
// has no metric, as the kernel's: otherwise it could not stand before that.

// limits reports whether a route of ours is a limit.
func (r route) limits() bool { return r.to.Is4() && r.metric == 0 && r.mtu > 0 }

// limited reports whether a limit is believed to be there.
func (r row) limited() bool { return r.key.Is4() && r.had.Means == state.Assigned && r.had.MTU > 0 }

// limit returns the MTU of the desired limit; 0: none.
func (r row) limit() uint32 {
	if !r.key.Is4() || r.want.Means != state.Assigned {
		return 0
	}
	return r.want.MTU
}

// dropLimits removes the undesired limits that are believed to be there.
func (t *task) dropLimits(l group) {
	if l.there {
		undesired := func(r row) bool { return r.limited() && r.limit() != r.had.MTU }
		t.run(l, l.where(0, failed, undesired), unlimiting(mismatched, 0, func(r row) uint32 { return r.had.MTU }))
	}
}

// dropUnknownLimits removes the undesired limits that were not known of. Their rows are few, or else all
// change. If the routes can't be listed, the next audit finds them.
func (t *task) dropUnknownLimits(l group) {
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
		t.run(l, some, unlimiting(0, found, func(r row) uint32 { return limits[r.key][n] }))
	}
}

// unknown returns the rows that may have an unknown limit: those that should not have been there, and those
// that were not as believed.
func (l group) unknown() []int {
	if !l.there {
		return l.where(found, failed, func(r row) bool { return r.key.Is4() })
	}
	is := func(routed bool) func(row) bool {
		return func(r row) bool { return r.key.Is4() && !r.limited() && (r.had.Means == state.Routed) == routed }
	}
	return slices.Concat(
		l.where(mismatched, failed, func(r row) bool { return r.key.Is4() }),
		l.where(0, failed|mismatched, is(false)),
		l.where(0, failed|mismatched|found, is(true)),
	)
}
