// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// task is one change of the table of addresses.
type task struct {
	ctx    context.Context
	c      *Conn
	device device
	result kernel.Result[state.Address]
}

// remove removes rows by the means by which they are believed to be there, and what is left by the other.
func (t *task) remove(g group, first, second request) {
	t.dropLimits(g)
	t.run(g, g.which(0, 0), first)
	missing := g.which(0, failed|found)
	for _, i := range missing {
		g.marks[i] |= mismatched
	}
	doubled := func(r row) bool { return r.had.Means == state.Doubled }
	t.run(g, slices.Concat(missing, g.where(found, failed, doubled)), second)
	t.dropUnknownLimits(g)
	t.count(g)
}

// tentatives is how many addresses at once may be tentative until they are local, see assigning.
const tentatives = 64

// assign makes addresses, and then removes their routes.
func (t *task) assign(g group) {
	t.dropLimits(g)
	t.run(g, g.which(0, 0), assigning(len(g.marks) <= tentatives))
	rest := t.beside(g, func() ([]state.Address, error) {
		routes, err := t.c.routes(t.ctx, t.device.index, state.RouteProtocol)
		return destinations(slices.DeleteFunc(routes, route.limits)), err
	})
	t.run(g, t.awaitLocal(g, rest), unrouting())
	t.dropUnknownLimits(g)
	t.run(g, g.where(0, failed, func(r row) bool { return r.limit() > 0 && !(g.there && r.had == r.want) }), limiting())
	t.count(g)
}

// route makes routes, and then removes the addresses.
func (t *task) route(g group) {
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		t.prepare(g, f)
	}
	t.dropLimits(g)
	if g.there {
		t.run(g, g.where(0, failed, func(r row) bool { return r.had.Means != state.Assigned }), rerouting())
	}
	t.run(g, g.which(0, failed|found), routing())
	t.run(g, g.which(routed, failed), rerouting())
	t.run(g, t.beside(g, func() ([]state.Address, error) { return t.c.assigned(t.ctx, t.device.index) }), unassigning())
	t.dropUnknownLimits(g)
	t.count(g)
}

// few is for how many rows asking the kernel in vain is cheaper than listing what it has.
const few = 64

// beside returns the rows that may be there by the other means too: those that change from it for sure, others only by
// surprise. A refusal costs ten times as much as a success, so for many rows it lists what is there by the other means,
// which is next to nothing. If that fails, the next audit finds them.
func (t *task) beside(g group, list func() ([]state.Address, error)) []int {
	changes := func(r row) bool { return r.had.Means != r.want.Means }
	rest := g.where(0, failed, changes)
	others := g.where(0, failed, func(r row) bool { return !changes(r) })
	if len(others) <= few {
		return append(rest, others...)
	}
	listed, err := list()
	if err != nil {
		return rest
	}
	there := make(map[state.Address]bool, len(listed))
	for _, a := range listed {
		there[a] = true
	}
	return append(rest, slices.DeleteFunc(others, func(i int) bool { return !there[g.at(i).key] })...)
}

// run makes a request for some of the rows, and marks what came of it.
func (t *task) run(g group, some []int, q request) {
	if len(some) == 0 {
		return
	}
	if q.backward {
		some = backward(g, some)
	}
	b := &t.c.requests
	refused, err := t.c.socket.Stream(t.ctx, b, len(some), func(n int) { q.encode(b, t.device.index, g.at(some[n])) })
	for n, i := range some {
		switch refusal := netlink.Outcome(refused, err, n); {
		case refusal == nil:
			g.marks[i] |= q.ifDone
		case q.met(refusal):
			g.marks[i] |= q.ifMet
		default:
			t.fail(g, []int{i}, q.verb, refusal)
		}
	}
}

// backward puts the IPv6 rows into the opposite order. The kernel searches a device's IPv6 addresses from the newest
// one: in the order in which they came, removing ten thousand takes five times as long.
func backward(g group, some []int) []int {
	v4 := func(i int) bool { return g.at(i).key.Is4() }
	six := slices.DeleteFunc(slices.Clone(some), v4)
	slices.Reverse(six)
	return append(slices.DeleteFunc(some, func(i int) bool { return !v4(i) }), six...)
}

func (t *task) fail(g group, some []int, verb string, err error) {
	if errors.Is(err, unix.ENODEV) { // deleted since its index was looked up
		err = errNoDevice()
	}
	for _, i := range some {
		a := g.at(i).key
		g.marks[i] |= failed
		t.result.Fail(a, fmt.Errorf("%s %v on %s: %w", verb, a, state.DummyLink, err))
	}
}

func errNoDevice() error {
	return fmt.Errorf("device %s is missing: %w", state.DummyLink, fs.ErrNotExist)
}

// count adds to the drift the rows that were there, or not, against expectation.
func (t *task) count(g group) {
	for _, m := range g.marks {
		if m&failed == 0 && (m&found != 0) != g.there {
			t.result.Drift++
		}
	}
}

// prepare makes the device fit for routes of a family, if there are any to make.
func (t *task) prepare(g group, f state.Family) {
	of := g.where(0, failed, func(r row) bool { return state.FamilyOf(r.key.Addr) == f })
	if len(of) == 0 {
		return
	}
	err := t.ctx.Err()
	switch {
	case err != nil:
	case f == state.IPv4:
		err = t.c.anchor(t.ctx, t.device.index)
	case !t.device.up:
		err = t.c.raise(t.device)
		t.device.up = err == nil
	}
	if err != nil {
		t.fail(g, of, "adding route to", err)
	}
}

// localWithin is how long the kernel may take to make the routes of IPv6 addresses.
const (
	localWithin = 5 * time.Second
	localPause  = 5 * time.Millisecond // between two looks
)

// awaitLocal waits until a work queue of the kernel has made its routes of IPv6 addresses whose routes of ours are to
// go, lest they have none. It fails those that the kernel does not come to, and returns the others.
func (t *task) awaitLocal(g group, some []int) []int {
	waiting := map[state.Address]int{}
	for _, i := range some {
		if r := g.at(i); r.had.Means != state.Assigned && !r.key.Is4() {
			waiting[r.key] = i
		}
	}
	err := fmt.Errorf("the kernel has not made its route within %v", localWithin)
	for looks := localWithin / localPause; len(waiting) > 0 && looks > 0; looks-- {
		routes, failure := t.c.routes(t.ctx, t.device.index, unix.RTPROT_KERNEL)
		if failure != nil {
			err = failure
			break
		}
		for _, a := range destinations(routes) {
			delete(waiting, a)
		}
		if len(waiting) > 0 {
			time.Sleep(localPause)
		}
	}
	for _, i := range waiting {
		t.fail(g, []int{i}, "adding address", err)
	}
	return slices.DeleteFunc(some, func(i int) bool { return g.marks[i]&failed != 0 })
}

// A limit is a route of ours with an MTU, before the one that the kernel makes of an IPv4 address of the device. It has
// no metric, as the kernel's: otherwise it could not stand before that.

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
func (t *task) dropLimits(g group) {
	if g.there {
		undesired := func(r row) bool { return r.limited() && r.limit() != r.had.MTU }
		t.run(g, g.where(0, failed, undesired), unlimiting(mismatched, 0, func(r row) uint32 { return r.had.MTU }))
	}
}

// dropUnknownLimits removes the undesired limits that were not known of. Their rows are few, or else all change. If the
// routes can't be listed, the next audit finds them.
func (t *task) dropUnknownLimits(g group) {
	some := g.unknown()
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
		r := g.at(i)
		limits[r.key] = slices.DeleteFunc(limits[r.key], func(mtu uint32) bool { return mtu == r.limit() })
	}
	for n := 0; len(some) > 0; n++ {
		some = slices.DeleteFunc(some, func(i int) bool { return len(limits[g.at(i).key]) <= n })
		t.run(g, some, unlimiting(0, found, func(r row) uint32 { return limits[r.key][n] }))
	}
}

// unknown returns the rows that may have an unknown limit: those that were not as believed.
func (g group) unknown() []int {
	if !g.there {
		return g.where(found, failed, func(r row) bool { return r.key.Is4() })
	}
	is := func(routed bool) func(row) bool {
		return func(r row) bool { return r.key.Is4() && !r.limited() && (r.had.Means == state.Routed) == routed }
	}
	return slices.Concat(
		g.where(mismatched, failed, func(r row) bool { return r.key.Is4() }),
		g.where(0, failed|mismatched, is(false)),
		g.where(0, failed|mismatched|found, is(true)),
	)
}
