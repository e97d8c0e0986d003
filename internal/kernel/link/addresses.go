// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/batch"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// addresses is the store of the host addresses on the device. The device's
// index is looked up each time: it changes when somebody deletes and makes it
// again.
type addresses struct{ c *Conn }

// List returns the addresses with a host prefix, but not IPv6 link-local ones,
// which the kernel gives to a device by itself. Without the device there are
// none.
func (s addresses) List(ctx context.Context) (map[state.Address]state.Binding, error) {
	device, err := s.c.Index()
	if err != nil {
		return nil, err
	}
	rows := map[state.Address]state.Binding{}
	if device == 0 {
		return rows, nil
	}
	assigned, err := s.c.dump(ctx, func(a Assigned) bool { return a.Index == device && bound(a.Prefix) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses on %s: %w", state.DummyLink, err)
	}
	for _, a := range assigned {
		rows[state.Address{Addr: a.Prefix.Addr()}] = state.Binding{}
	}
	return rows, nil
}

func bound(p netip.Prefix) bool {
	linkLocal := p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	return p.IsSingleIP() && !linkLocal
}

// Apply adds and removes addresses, many in one system call.
//
// A new IPv4 address attracts packets when Apply returns; an IPv6 one some
// milliseconds later, when the kernel's work queue has made its local route.
func (s addresses) Apply(ctx context.Context, d diff.Delta[state.Address, state.Binding]) kernel.Result[state.Address] {
	remove, add := removal(d), addition(d)
	var r kernel.Result[state.Address]
	device, err := s.c.Index()
	if err != nil {
		remove.fail(&r, 0, err)
		add.fail(&r, 0, err)
		return r
	}
	if device == 0 { // and all its addresses with it
		r.Drift += len(remove.rows)
		add.fail(&r, 0, errNoDevice())
		return r
	}
	s.run(ctx, device, remove, &r)
	s.run(ctx, device, add, &r)
	return r
}

func errNoDevice() error {
	return fmt.Errorf("device %s is missing: %w", state.DummyLink, fs.ErrNotExist)
}

// step is one kind of request for many addresses.
type step struct {
	verb   string
	rows   []state.Address
	encode func(b *batch.Requests, device int, a netip.Addr)

	// drift knows the refusals that mean that the row was as wished before.
	drift func(refusal error) bool
}

func removal(d diff.Delta[state.Address, state.Binding]) step {
	return step{"removing", keys(d.Remove), addUnbind, func(err error) bool {
		return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV)
	}}
}

// addition is of added rows; a Binding has one value, so none is ever updated.
func addition(d diff.Delta[state.Address, state.Binding]) step {
	return step{"adding", keys(d.Add), addBind, func(err error) bool { return errors.Is(err, fs.ErrExist) }}
}

func keys(rows []diff.Row[state.Address, state.Binding]) []state.Address {
	list := make([]state.Address, len(rows))
	for i, row := range rows {
		list[i] = row.Key
	}
	return list
}

func (s addresses) run(ctx context.Context, device int, t step, r *kernel.Result[state.Address]) {
	s.c.requests.Reset()
	for _, a := range t.rows {
		t.encode(&s.c.requests, device, a.Addr)
	}
	refused, err := s.c.socket.Do(ctx, &s.c.requests)
	for i, refusal := range refused {
		switch {
		case refusal == nil:
		case t.drift(refusal):
			r.Drift++
		default:
			r.Fail(t.rows[i], t.explain(t.rows[i], refusal))
		}
	}
	if err != nil {
		t.fail(r, len(refused), err)
	}
}

// fail fails the rows from the index on.
func (t step) fail(r *kernel.Result[state.Address], from int, err error) {
	for _, a := range t.rows[from:] {
		r.Fail(a, t.explain(a, err))
	}
}

func (t step) explain(a state.Address, err error) error {
	if errors.Is(err, unix.ENODEV) { // deleted since its index was looked up
		err = errNoDevice()
	}
	return fmt.Errorf("%s address %v on %s: %w", t.verb, a, state.DummyLink, err)
}
