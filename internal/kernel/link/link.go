// SPDX-License-Identifier: Apache-2.0

// Package link is the kernel's network devices and their addresses, as far as a
// Service proxy needs them: the one dummy device that carries the Service
// addresses, those addresses, and which addresses the other devices have.
//
// It decides nothing: which addresses Services have is somebody else's
// knowledge, and so is which of the node's addresses count. Routes and
// neighbours are no business of this package, nor are events (package node).
package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/batch"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn speaks rtnetlink in the network namespace of the thread that opened it.
// It and its stores are used by one goroutine at a time.
type Conn struct {
	handle   *netlink.Handle // links: few, one request each
	socket   *batch.Socket   // addresses: many
	requests batch.Requests
}

// Open opens a connection to the current thread's network namespace.
func Open() (*Conn, error) {
	socket, err := batch.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
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

// Traffic is what has been sent to the kernel so far for addresses; the few
// requests for devices are not part of it.
func (c *Conn) Traffic() batch.Traffic { return c.socket.Traffic() }

// Links is the table of the device state.DummyLink; other devices never show
// in it.
func (c *Conn) Links() kernel.Store[state.LinkName, state.Link] { return links{c} }

// Addresses is the table of the host addresses on state.DummyLink.
func (c *Conn) Addresses() kernel.Store[state.Address, state.Binding] { return addresses{c} }

// Index is the index of the device state.DummyLink, 0 if there is none.
func (c *Conn) Index() (int, error) {
	l, err := c.lookup(state.DummyLink)
	if err != nil || l == nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

// Elsewhere returns the addresses of all devices but the one with the index
// dummy, in no order, as often as they are assigned.
func (c *Conn) Elsewhere(ctx context.Context, dummy int) ([]netip.Addr, error) {
	assigned, err := c.dump(ctx, func(a Assigned) bool { return a.Index != dummy })
	if err != nil {
		return nil, fmt.Errorf("listing addresses of the node: %w", err)
	}
	list := make([]netip.Addr, len(assigned))
	for i, a := range assigned {
		list[i] = a.Prefix.Addr()
	}
	return list, nil
}

// lookup finds a device; nil means that there is none.
func (c *Conn) lookup(name state.LinkName) (netlink.Link, error) {
	l, err := c.handle.LinkByName(string(name))
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up device %s: %w", name, err)
	}
	return l, nil
}

// dump lists the addresses that keep wants.
func (c *Conn) dump(ctx context.Context, keep func(Assigned) bool) ([]Assigned, error) {
	c.requests.Reset()
	addDump(&c.requests)
	var list []Assigned
	err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
		list = nil
		return func(body []byte) error {
			a, err := ParseAssigned(body)
			if err == nil && keep(a) {
				list = append(list, a)
			}
			return err
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
