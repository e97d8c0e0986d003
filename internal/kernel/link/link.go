// SPDX-License-Identifier: Apache-2.0

// Package link is the kernel's network devices and their addresses, as far as a Service proxy needs them: the dummy
// device that carries the Service addresses, those addresses or the local routes in their place, and the addresses of
// the other devices. Events are in package node.
package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn is an rtnetlink connection to a network namespace. One goroutine uses it and its stores at a time.
type Conn struct {
	handle   *vnl.Handle     // links: few, one request each
	socket   *netlink.Socket // addresses and routes: many
	requests netlink.Requests
}

// Open opens a connection to the current thread's network namespace.
func Open() (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := socket.FilterDumps(); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	handle, err := vnl.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening rtnetlink handle: %w", err), socket.Close())
	}
	return &Conn{handle: handle, socket: socket}, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.handle.Close()
	return c.socket.Close()
}

// Traffic returns what has been sent so far for addresses and routes, without the few requests for devices.
func (c *Conn) Traffic() netlink.Traffic { return c.socket.Traffic() }

// Links returns the table of the device state.DummyLink; other devices never show in it.
func (c *Conn) Links() kernel.Store[state.LinkName, state.Link] { return links{c} }

// Addresses returns the table of the Service addresses on state.DummyLink.
func (c *Conn) Addresses() kernel.Store[state.Address, state.Binding] { return addresses{c} }

// Index returns the index of the device state.DummyLink, 0 if there is none.
func (c *Conn) Index() (int, error) {
	d, err := c.device()
	return d.index, err
}

// Device returns the index of the device, and whether it is up.
func (c *Conn) Device() (index int, up bool, err error) {
	d, err := c.device()
	return d.index, d.up, err
}

// Elsewhere returns the addresses of all devices but the one with the index dummy, as often as they are there.
func (c *Conn) Elsewhere(ctx context.Context, dummy int) ([]netip.Addr, error) {
	assigned, err := c.AssignedElsewhere(ctx, dummy)
	list := make([]netip.Addr, len(assigned))
	for i, p := range assigned {
		list[i] = p.Addr()
	}
	return list, err
}

// AssignedElsewhere is Elsewhere, with the length of the networks.
func (c *Conn) AssignedElsewhere(ctx context.Context, dummy int) ([]netip.Prefix, error) {
	c.requests.Reset()
	addDump(&c.requests, 0)
	return dump(ctx, c, "addresses of the node", func(body []byte) (netip.Prefix, bool, error) {
		a, err := ParseAssigned(body)
		return a.Prefix, a.Index != dummy, err
	})
}

// lookup finds a device; nil means that there is none.
func (c *Conn) lookup(name state.LinkName) (vnl.Link, error) {
	l, err := c.handle.LinkByName(string(name))
	if _, missing := errors.AsType[vnl.LinkNotFoundError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up device %s: %w", name, err)
	}
	return l, nil
}

// assigned lists the addresses of the device that can be Services'.
func (c *Conn) assigned(ctx context.Context, device int) ([]state.Address, error) {
	c.requests.Reset()
	addDump(&c.requests, device)
	return dump(ctx, c, "addresses on "+state.DummyLink, func(body []byte) (state.Address, bool, error) {
		a, err := ParseAssigned(body)
		return state.Address{Addr: a.Prefix.Addr()}, a.Index == device && bound(a.Prefix), err
	})
}

// routes lists the routes by which a protocol, the kernel's or ours, made addresses local on the device.
func (c *Conn) routes(ctx context.Context, device int, protocol uint8) ([]route, error) {
	c.requests.Reset()
	addRouteDump(&c.requests, device, protocol)
	return dump(ctx, c, "routes to "+state.DummyLink, func(body []byte) (route, bool, error) {
		r, err := parseRoute(body)
		return r, r.binds(device, protocol), err
	})
}

// dump sends the one request that c has and lists what pick makes of the answers.
func dump[T any](ctx context.Context, c *Conn, what state.LinkName, pick func([]byte) (T, bool, error)) ([]T, error) {
	list, err := netlink.DumpList(ctx, c.socket, &c.requests, pick)
	if errors.Is(err, unix.ENODEV) { // the device was deleted since its index was looked up
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", what, err)
	}
	return list, nil
}
