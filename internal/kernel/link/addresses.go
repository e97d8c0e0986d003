// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// addresses is the store of the Service addresses of the device, by either means: host addresses that it has, and local
// routes of ours to it. The device's index is looked up each time: it changes when the device is deleted and made
// again.
//
// To add an address, the kernel walks all that the device has: forty thousand take half a minute. A route costs the
// same however many there are.
//
// The kernel takes no MTU with an address. So a limit, a route of ours with the MTU, stands before the route that the
// kernel makes of an IPv4 address.
type addresses struct{ c *Conn }

// List returns the addresses that are bound or that routes of ours lead to; none without the device.
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
		b := state.Binding{Means: state.Routed, Source: r.source, MTU: r.mtu}
		switch {
		case there && r.limits() && had == (state.Binding{}):
			b.Means = state.Assigned
		case there:
			b.Means = state.Doubled
		}
		rows[a] = b
	}
	return rows, nil
}

// Apply adds and removes addresses and routes, many in one system call. A row that changes from one to the other has
// both for a moment, so that its packets always arrive here.
//
// A new IPv4 address attracts packets when Apply returns, and so does a route of either family; an IPv6 address some
// milliseconds later, when the kernel's work queue has made its local route.
func (s addresses) Apply(ctx context.Context, d diff.Delta[state.Address, state.Binding]) kernel.Result[state.Address] {
	t := task{ctx: ctx, c: s.c}
	var err error
	if t.device, err = s.c.device(); err == nil && t.device.index == 0 {
		t.result.Drift = len(d.Remove) // gone with the device
		d.Remove, err = nil, errNoDevice()
	}
	routed, assigned := kernel.Split(d, func(_ state.Address, b state.Binding) bool { return b.Means != state.Assigned })
	for _, step := range []struct {
		group group
		do    func(group)
	}{
		{groupOf(assigned.Remove, true), func(g group) { t.remove(g, unassigning(), unrouting()) }},
		{groupOf(routed.Remove, true), func(g group) { t.remove(g, unrouting(), unassigning()) }},
		{changed(assigned.Update), t.assign},
		{changed(routed.Update), t.route},
		{groupOf(assigned.Add, false), t.assign},
		{groupOf(routed.Add, false), t.route},
	} {
		switch {
		case len(step.group.marks) == 0:
		case err != nil:
			t.fail(step.group, step.group.which(0, 0), "changing", err)
		default:
			step.do(step.group)
		}
	}
	return t.result
}

// group is the rows of one kind of change.
type group struct {
	at    func(i int) row
	marks []mark
	there bool // they are believed to be
}

// row is what is desired for an address, and what is believed to be, or to have been, in the kernel.
type row struct {
	key  state.Address
	want state.Binding
	had  state.Binding
}

// mark is what is found out about a row during the change.
type mark uint8

const (
	failed     mark = 1 << iota
	found           // by one means or the other
	routed          // there is a route, of whatever source
	mismatched      // it was not as believed
)

func groupOf(list []diff.Row[state.Address, state.Binding], there bool) group {
	at := func(i int) row {
		r := row{key: list[i].Key, had: list[i].Value}
		if !there {
			r.want = list[i].Value
		}
		return r
	}
	return group{at, make([]mark, len(list)), there}
}

func changed(list []diff.Change[state.Address, state.Binding]) group {
	at := func(i int) row { return row{list[i].Key, list[i].New, list[i].Old} }
	return group{at, make([]mark, len(list)), true}
}

// which returns the rows that have all the marks of with and none of those of without.
func (g group) which(with, without mark) []int {
	return g.where(with, without, func(row) bool { return true })
}

func (g group) where(with, without mark, is func(row) bool) []int {
	list := make([]int, 0, len(g.marks))
	for i, m := range g.marks {
		if m&with == with && m&without == 0 && is(g.at(i)) {
			list = append(list, i)
		}
	}
	return list
}
