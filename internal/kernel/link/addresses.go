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
	if err := ctx.Err(); err != nil {
		return nil, err
	}
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
	var r kernel.Result[state.Address]
	device, err := s.c.Index()
	for _, t := range []step{removal(d), revision(d), addition(d)} {
		switch {
		case err != nil:
			t.fail(&r, 0, err)
		case device > 0:
			s.run(ctx, device, t, &r)
		case t.makes:
			t.fail(&r, 0, errNoDevice())
		default: // gone with all its addresses
			r.Drift += len(t.rows)
		}
	}
	return r
}

func errNoDevice() error {
	return fmt.Errorf("device %s is missing: %w", state.DummyLink, fs.ErrNotExist)
}

// step is one kind of request for many addresses.
type step struct {
	verb   string
	rows   []state.Address
	makes  bool // the addresses, or takes them away
	encode func(b *batch.Requests, device int, a netip.Addr)

	// met knows the refusals that mean that a row was as wished before.
	met      func(refusal error) bool
	expected bool // that it was
}

func removal(d diff.Delta[state.Address, state.Binding]) step {
	return step{"removing", keys(d.Remove), false, addUnbind, isGone, false}
}

// revision is of updated rows. A Binding has one value, so nobody should have
// any, but if so the addresses have to be there.
func revision(d diff.Delta[state.Address, state.Binding]) step {
	rows := make([]state.Address, len(d.Update))
	for i, c := range d.Update {
		rows[i] = c.Key
	}
	return step{"updating", rows, true, addBind, isThere, true}
}

func addition(d diff.Delta[state.Address, state.Binding]) step {
	return step{"adding", keys(d.Add), true, addBind, isThere, false}
}

func isGone(refusal error) bool {
	return errors.Is(refusal, unix.EADDRNOTAVAIL) || errors.Is(refusal, unix.ENODEV)
}

func isThere(refusal error) bool { return errors.Is(refusal, fs.ErrExist) }

func keys(rows []diff.Row[state.Address, state.Binding]) []state.Address {
	list := make([]state.Address, len(rows))
	for i, row := range rows {
		list[i] = row.Key
	}
	return list
}

func (s addresses) run(ctx context.Context, device int, t step, r *kernel.Result[state.Address]) {
	b := &s.c.requests
	refused, err := s.c.socket.Stream(ctx, b, len(t.rows), func(i int) { t.encode(b, device, t.rows[i].Addr) })
	for i, refusal := range refused {
		met := refusal != nil && t.met(refusal)
		switch {
		case refusal != nil && !met:
			r.Fail(t.rows[i], t.explain(t.rows[i], refusal))
		case met != t.expected:
			r.Drift++
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
