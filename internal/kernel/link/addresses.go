// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// addresses is the store of the Service addresses of the device, by either means: host addresses that it has,
// and local routes of ours that go to it. The device's index is looked up each time: it changes when somebody
// deletes and makes it again.
//
// To add an address, the kernel looks at all that the device has: forty thousand take half a minute. A route
// costs the same however many there are.
//
// The kernel lets nobody give an MTU to an address. So a limit stands before the route that the kernel makes
// of an IPv4 address: a route of ours with the MTU.
type addresses struct{ c *Conn }

// List returns the addresses with a host prefix, but not IPv6 link-local ones, which the kernel gives to a
// device by itself, and those that routes of ours lead to. Without the device there are none.
func (s addresses) List(ctx context.Context) (map[state.Address]state.Binding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d, err := s.c.device()
	if err != nil {
		return nil, err
	}
	if d.index == 0 {
		return map[state.Address]state.Binding{}, nil
	}
	assigned, err := s.c.assigned(ctx, d.index)
	if err != nil {
		return nil, err
	}
	routes, err := s.c.routes(ctx, d.index, state.RouteProtocol)
	if err != nil {
		return nil, err
	}
	rows := make(map[state.Address]state.Binding, len(assigned)+len(routes))
	for _, a := range assigned {
		rows[a] = state.Binding{}
	}
	for _, r := range routes {
		a := state.Address{Addr: r.to}
		had, there := rows[a]
		rows[a] = beneath(had, there, r)
	}
	return rows, nil
}

// beneath is what is shown of an address that has one more route of ours.
func beneath(had state.Binding, there bool, r route) state.Binding {
	b := state.Binding{Means: state.Routed, Source: r.source, MTU: r.mtu}
	switch {
	case there && r.limits() && had == (state.Binding{}):
		b.Means = state.Assigned
	case there:
		b.Means = state.Doubled
	}
	return b
}

func bound(p netip.Prefix) bool {
	linkLocal := p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	return p.IsSingleIP() && !linkLocal && p.Addr() != state.Anchor()
}

// Apply adds and removes addresses and routes, many in one system call. A row that changes from one to the
// other has both for a moment, so that its packets are never somebody else's.
//
// A new IPv4 address attracts packets when Apply returns, and a route of either family too; an IPv6 address
// some milliseconds later, when the kernel's work queue has made its local route.
func (s addresses) Apply(ctx context.Context, d diff.Delta[state.Address, state.Binding]) kernel.Result[state.Address] {
	t := task{ctx: ctx, c: s.c}
	var err error
	if t.device, err = s.c.device(); err == nil && t.device.index == 0 {
		t.result.Drift = len(d.Remove) // gone with the device
		d.Remove, err = nil, errNoDevice()
	}
	routed, assigned := kernel.Split(d, func(_ state.Address, b state.Binding) bool { return b.Means != state.Assigned })
	for _, step := range []struct {
		lot lot
		do  func(lot)
	}{
		{lotOf(assigned.Remove, true), func(l lot) { t.remove(l, unassigning(), unrouting()) }},
		{lotOf(routed.Remove, true), func(l lot) { t.remove(l, unrouting(), unassigning()) }},
		{changed(assigned.Update), t.assign},
		{changed(routed.Update), t.route},
		{lotOf(assigned.Add, false), t.assign},
		{lotOf(routed.Add, false), t.route},
	} {
		switch {
		case len(step.lot.marks) == 0:
		case err != nil:
			t.fail(step.lot, step.lot.which(0, 0), "changing", err)
		default:
			step.do(step.lot)
		}
	}
	return t.result
}

// lot is the rows of one kind of change.
type lot struct {
	at    func(i int) row
	marks []mark
	there bool // they are thought to be
}

// row is what is wished for an address, and by which means it is, or if it is not there is to be, in the
// kernel.
type row struct {
	key  state.Address
	want state.Binding
	had  state.Binding
}

// mark is what is known of a row meanwhile.
type mark uint8

const (
	failed   mark = 1 << iota
	found         // by one means or the other
	routed        // there is a route, of whatever source
	doubtful      // it was not as it was thought to be
)

func lotOf(list []diff.Row[state.Address, state.Binding], there bool) lot {
	at := func(i int) row {
		r := row{key: list[i].Key, had: list[i].Value}
		if !there {
			r.want = list[i].Value
		}
		return r
	}
	return lot{at, make([]mark, len(list)), there}
}

func changed(list []diff.Change[state.Address, state.Binding]) lot {
	at := func(i int) row { return row{list[i].Key, list[i].New, list[i].Old} }
	return lot{at, make([]mark, len(list)), true}
}

// which are the rows that have all the marks of with and none of those of without.
func (l lot) which(with, without mark) []int {
	return l.where(with, without, func(row) bool { return true })
}

func (l lot) where(with, without mark, is func(row) bool) []int {
	list := make([]int, 0, len(l.marks))
	for i, m := range l.marks {
		if m&with == with && m&without == 0 && is(l.at(i)) {
			list = append(list, i)
		}
	}
	return list
}
