// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const dummyKind = "dummy"

// links is the store of the one device. The device stays down, as kube-proxy leaves it: the kernel makes local routes
// for the addresses of a dummy that is down, and that announces nothing, gets no link-local address and can't lose IPv6
// addresses by being set down. Only IPv6 routes of our own need it up, from the first one on.
type links struct{ c *Conn }

func (s links) List(ctx context.Context) (map[state.LinkName]state.Link, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := s.c.lookup(state.DummyLink)
	if err != nil {
		return nil, err
	}
	rows := map[state.LinkName]state.Link{}
	if l != nil {
		rows[state.DummyLink] = state.Link{Kind: l.Type()}
	}
	return rows, nil
}

// Apply makes or deletes the device. A device of another kind that has its name belongs to another program: it is never
// deleted, and the row fails.
func (s links) Apply(ctx context.Context, d diff.Delta[state.LinkName, state.Link]) kernel.Result[state.LinkName] {
	var r kernel.Result[state.LinkName]
	settle := func(k state.LinkName, drift bool, err error) {
		if err != nil {
			r.Fail(k, err)
		} else if drift {
			r.Drift++
		}
	}
	for _, row := range d.Remove {
		met, err := s.remove(ctx, row.Key)
		settle(row.Key, !met, err)
	}
	for _, change := range d.Update {
		met, err := s.ensure(ctx, change.Key, change.New)
		settle(change.Key, !met, err)
	}
	for _, row := range d.Add {
		met, err := s.ensure(ctx, row.Key, row.Value)
		settle(row.Key, met, err)
	}
	return r
}

// ensure makes the device, and reports whether it was there already.
func (s links) ensure(ctx context.Context, name state.LinkName, want state.Link) (met bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if name != state.DummyLink || want.Kind != dummyKind {
		return false, fmt.Errorf("making device %s of kind %q: only %s of kind %s is ours", name, want.Kind, state.DummyLink, dummyKind)
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = string(name)
	err = s.c.handle.LinkAdd(&netlink.Dummy{LinkAttrs: attributes})
	switch {
	case errors.Is(err, fs.ErrExist):
		l, err := s.ours(name)
		if err == nil && l == nil {
			err = fmt.Errorf("device %s vanished while it was looked at: %w", name, fs.ErrNotExist)
		}
		return true, err
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, fmt.Errorf("making device %s: the kernel has no module %q: %w", name, dummyKind, err)
	case err != nil:
		return false, fmt.Errorf("making device %s: %w", name, err)
	}
	return false, nil
}

// ours finds the device; nil means that there is none. It fails for one that is no dummy.
func (s links) ours(name state.LinkName) (netlink.Link, error) {
	l, err := s.c.lookup(name)
	if err == nil && l != nil && l.Type() != dummyKind {
		err = fmt.Errorf("device %s is a %s and not a %s: it belongs to another program; rename or delete it", name, l.Type(), dummyKind)
	}
	return l, err
}

func (s links) remove(ctx context.Context, name state.LinkName) (met bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if name != state.DummyLink {
		return false, fmt.Errorf("deleting device %s: only %s is ours", name, state.DummyLink)
	}
	l, err := s.ours(name)
	if err != nil || l == nil {
		return l != nil, err
	}
	err = s.c.handle.LinkDel(l)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("deleting device %s: %w", name, err)
	}
	return true, nil
}

// device is the one device as it was looked up; the zero one is not there.
type device struct {
	index int
	up    bool
}

func (c *Conn) device() (device, error) {
	l, err := c.lookup(state.DummyLink)
	if err != nil || l == nil {
		return device{}, err
	}
	return device{l.Attrs().Index, l.Attrs().Flags&net.FlagUp != 0}, nil
}

// raise sets the device up, without a link-local address. A dummy does no ARP, and drops what it is given.
func (c *Conn) raise(d device) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	l := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: d.index}}
	err := c.handle.LinkSetIP6AddrGenMode(l, none)
	if err == nil {
		err = c.handle.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("setting device %s up: %w", state.DummyLink, err)
	}
	return nil
}

// anchor gives the device the address that keeps its IPv4 routes, for this host alone.
func (c *Conn) anchor(ctx context.Context, device int) error {
	c.requests.Reset()
	c.requests.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	addAddress(&c.requests, device, state.Anchor(), 0, unix.RT_SCOPE_HOST)
	if err := c.socket.Ask(ctx, &c.requests, nil); err != nil && !isThere(err) {
		return fmt.Errorf("adding address %v: %w", state.Anchor(), err)
	}
	return nil
}
