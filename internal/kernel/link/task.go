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
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// task is one change of the table of addresses.
type task struct {
	ctx    context.Context
	c      *Conn
	device device
	result kernel.Result[state.Address]
}

// remove takes rows away by the means by which they are thought to be there, and those that are not by the
// other.
func (t *task) remove(l lot, first, second request) {
	t.lower(l)
	t.run(l, l.which(0, 0), first)
	missing := l.which(0, failed|found)
	for _, i := range missing {
		l.marks[i] |= doubtful
	}
	doubled := func(r row) bool { return r.had.Means == state.Doubled }
	t.run(l, slices.Concat(missing, l.where(found, failed, doubled)), second)
	t.lift(l)
	t.count(l)
}

// tentatives is how many addresses at once are tentative at most until they are local (addBind).
const tentatives = 64

// assign makes addresses, and then takes their routes away.
func (t *task) assign(l lot) {
	t.lower(l)
	t.run(l, l.which(0, 0), assigning(len(l.marks) <= tentatives))
	rest := t.beside(l, func() ([]state.Address, error) {
		routes, err := t.c.routes(t.ctx, t.device.index, state.RouteProtocol)
		return destinations(slices.DeleteFunc(routes, route.limits)), err
	})
	t.run(l, t.awaitLocal(l, rest), unrouting())
	t.lift(l)
	t.run(l, l.where(0, failed, func(r row) bool { return r.limit() > 0 && !(l.there && r.had == r.want) }), limiting())
	t.count(l)
}

// route makes routes, and then takes the addresses away.
func (t *task) route(l lot) {
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		t.ground(l, f)
	}
	t.lower(l)
	if l.there {
		t.run(l, l.where(0, failed, func(r row) bool { return r.had.Means != state.Assigned }), rerouting())
	}
	t.run(l, l.which(0, failed|found), routing())
	t.run(l, l.which(routed, failed), rerouting())
	t.run(l, t.beside(l, func() ([]state.Address, error) { return t.c.assigned(t.ctx, t.device.index) }), unassigning())
	t.lift(l)
	t.count(l)
}

// few is for how many rows to ask the kernel in vain costs less than to list what it has.
const few = 64

// beside are the rows that may be there by the other means too. It is known of those that change from that;
// of others it would be a surprise. A refusal costs ten times of what a row does that is made, so that for
// many rows all that there is by the other means is listed, which is next to nothing. If it can't be, the
// next audit shows it.
func (t *task) beside(l lot, list func() ([]state.Address, error)) []int {
	changes := func(r row) bool { return r.had.Means != r.want.Means }
	rest := l.where(0, failed, changes)
	others := l.where(0, failed, func(r row) bool { return !changes(r) })
	if len(others) <= few {
		return append(rest, others...)
	}
	there := map[state.Address]struct{}{}
	listed, err := list()
	if err != nil {
		return rest
	}
	for _, a := range listed {
		there[a] = struct{}{}
	}
	for _, i := range others {
		if _, is := there[l.at(i).key]; is {
			rest = append(rest, i)
		}
	}
	return rest
}

// run makes a request for some of the rows, and marks what came of it.
func (t *task) run(l lot, some []int, q request) {
	if len(some) == 0 {
		return
	}
	if q.backward {
		some = backward(l, some)
	}
	b := &t.c.requests
	refused, err := t.c.socket.Stream(t.ctx, b, len(some), func(n int) { q.encode(b, t.device.index, l.at(some[n])) })
	for n, i := range some {
		refusal := err
		if n < len(refused) {
			refusal = refused[n]
		}
		switch {
		case refusal == nil:
			l.marks[i] |= q.ifDone
		case q.met(refusal):
			l.marks[i] |= q.ifMet
		default:
			t.fail(l, []int{i}, q.verb, refusal)
		}
	}
}

// backward puts the IPv6 rows into the opposite order. The kernel puts a new IPv6 address in front of all
// that the device has, and looks for it from there: to remove ten thousand in the order in which they came
// takes five times as long.
func backward(l lot, some []int) []int {
	v4 := func(i int) bool { return l.at(i).key.Is4() }
	six := slices.DeleteFunc(slices.Clone(some), v4)
	slices.Reverse(six)
	return append(slices.DeleteFunc(some, func(i int) bool { return !v4(i) }), six...)
}

// fail fails some of the rows.
func (t *task) fail(l lot, some []int, verb string, err error) {
	if errors.Is(err, unix.ENODEV) { // deleted since its index was looked up
		err = errNoDevice()
	}
	for _, i := range some {
		a := l.at(i).key
		l.marks[i] |= failed
		t.result.Fail(a, fmt.Errorf("%s %v on %s: %w", verb, a, state.DummyLink, err))
	}
}

func errNoDevice() error {
	return fmt.Errorf("device %s is missing: %w", state.DummyLink, fs.ErrNotExist)
}

// count adds the rows to the drift that were there, or not, against expectation.
func (t *task) count(l lot) {
	for _, m := range l.marks {
		if m&failed == 0 && (m&found != 0) != l.there {
			t.result.Drift++
		}
	}
}

// ground makes the device fit for routes of a family, if there are any to make.
func (t *task) ground(l lot, f state.Family) {
	of := l.where(0, failed, func(r row) bool { return state.FamilyOf(r.key.Addr) == f })
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
		t.fail(l, of, "adding route to", err)
	}
}

const (
	// localWithin is how long the kernel may take to make the routes of IPv6 addresses, and localPause the
	// time between two looks.
	localWithin = 5 * time.Second
	localPause  = 5 * time.Millisecond
)

// awaitLocal waits until the kernel has made its own routes of IPv6 addresses whose routes of ours are to go:
// it does so from a work queue, some milliseconds later. A row without either would be lost, so that one to
// which the kernel does not come fails. The others are returned.
func (t *task) awaitLocal(l lot, some []int) []int {
	waiting := map[state.Address]int{}
	for _, i := range some {
		if r := l.at(i); r.had.Means != state.Assigned && !r.key.Is4() {
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
		t.fail(l, []int{i}, "adding address", err)
	}
	return slices.DeleteFunc(some, func(i int) bool { return l.marks[i]&failed != 0 })
}
