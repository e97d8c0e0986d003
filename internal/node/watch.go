// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// settle is how long the addresses may go on changing before they are read: a device seldom gets just
	// one.
	settle = 100 * time.Millisecond

	// eventBuffer holds the events of some thousand addresses. What does not fit costs reading the addresses
	// again, and nothing else.
	eventBuffer = 4 << 20

	attempts = 5
)

// Event is what the kernel changed about the node.
type Event struct {
	// Addresses are all usable addresses as they are now: see Usable.
	Addresses []netip.Addr

	// Networks are those of the devices that have the addresses: see Networks.
	Networks []netip.Prefix

	// Gateways are the next hops of all default routes as they are now, but for IPv6 link-local ones: sorted
	// and without doubles.
	Gateways []netip.Addr

	// MTU is the least of the devices that packets leave the node by: of those that are up and running, but
	// for loopback and state.DummyLink. 0: there are none.
	MTU uint32

	// LinkLost says that the device that carries the Service addresses was deleted, renamed or moved away
	// since the last event, even if there is one of its name again: all Service addresses went with it. Or it
	// lost what routes need that it has in place of addresses: it was set down, or state.Anchor was taken
	// from it.
	LinkLost bool
}

// Conn listens to the kernel in the network namespace of the thread that opened it. It is used by one
// goroutine at a time.
type Conn struct {
	links    *link.Conn
	routes   *netlink.Socket
	requests netlink.Requests
	events   *os.File // an rtnetlink socket
	keptBack int      // the device whose new addresses are no events
	buffer   []byte
}

// Open opens a connection to the current thread's network namespace.
func Open() (*Conn, error) {
	links, err := link.Open()
	if err != nil {
		return nil, err
	}
	routes, err := netlink.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(err, links.Close())
	}
	events, err := openEvents()
	if err != nil {
		return nil, errors.Join(err, routes.Close(), links.Close())
	}
	return &Conn{links: links, routes: routes, events: events, buffer: make([]byte, 64<<10)}, nil
}

func openEvents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening netlink event socket: %w", err)
	}
	// A file can be waited for with a deadline.
	events := os.NewFile(uintptr(fd), "rtnetlink events")
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	if err != nil && !errors.Is(err, unix.EPERM) {
		return nil, errors.Join(fmt.Errorf("setting netlink event buffer: %w", err), events.Close())
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("binding netlink event socket: %w", err), events.Close())
	}
	return events, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	return errors.Join(c.events.Close(), c.routes.Close(), c.links.Close())
}

// assigned are the addresses of the node's devices.
//
// They are read again if the device that carries the Service addresses was made or lost meanwhile, or else
// those could be taken for the node's.
func (c *Conn) assigned(ctx context.Context) ([]netip.Prefix, error) {
	for range attempts {
		before, err := c.links.Index()
		if err != nil {
			return nil, err
		}
		assigned, err := c.links.AssignedElsewhere(ctx, before)
		if err != nil {
			return nil, err
		}
		after, err := c.links.Index()
		if err != nil {
			return nil, err
		}
		if before == after {
			return assigned, nil
		}
	}
	return nil, fmt.Errorf("reading addresses while %s comes and goes: %w", state.DummyLink, netlink.ErrInterrupted)
}

// Now is the node as it is: an event of which nothing is lost.
func (c *Conn) Now(ctx context.Context) (Event, error) {
	var seen watched
	e, _, err := c.look(ctx, &seen)
	return e, err
}

// Watch passes an event on for the addresses, gateways and MTU as they are, and then one for each change of
// these or loss of the device, in the calling goroutine. It never passes on a part of a set: events only say
// that it is time to read all of it, so lost ones are made up for. Changes in quick succession are one event,
// and the Service addresses are none.
//
// It returns the context's error when that ends, or why it can't go on. It can be called again then, but what
// happened to the device meanwhile is not known.
func (c *Conn) Watch(ctx context.Context, each func(Event)) error {
	// First listen, then read, so that nothing is missed in between.
	err := c.join(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.wake)
	defer stop()

	device, up, err := c.links.Device()
	if err != nil {
		return err
	}
	seen := watched{device: device, up: up, stale: true}
	if err := c.keepBack(device); err != nil {
		return err
	}
	for {
		if err := c.refresh(ctx, &seen, each); err != nil {
			return err
		}
		if err := c.collect(ctx, &seen); err != nil {
			return err
		}
	}
}

// refresh passes on what is new. If that changes too fast to be read, what was seen stays stale.
func (c *Conn) refresh(ctx context.Context, seen *watched, each func(Event)) error {
	e, worth, err := c.look(ctx, seen)
	if errors.Is(err, netlink.ErrInterrupted) {
		return nil
	}
	if err == nil && worth {
		each(e)
	}
	return err
}

// look reads addresses, routes and devices, and says whether they are worth an event.
func (c *Conn) look(ctx context.Context, seen *watched) (e Event, worth bool, err error) {
	now, err := c.assigned(ctx)
	if err != nil {
		return Event{}, false, err
	}
	hops, err := c.hops(ctx)
	if err != nil {
		return Event{}, false, err
	}
	carried, err := c.mtus(ctx)
	if err != nil {
		return Event{}, false, err
	}
	e, worth = seen.news(now, hops, carried)
	return e, worth, nil
}

func (c *Conn) join(groups ...int) error {
	raw, err := c.events.SyscallConn()
	if err != nil {
		return fmt.Errorf("joining netlink groups: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, g := range groups {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
				failed = errors.Join(failed, fmt.Errorf("joining netlink group %d: %w", g, err))
			}
		}
	})
	return errors.Join(err, failed)
}

// wake ends a wait for events.
func (c *Conn) wake() { c.events.SetReadDeadline(time.Unix(1, 0)) }

// collect waits for the first event that matters, and then takes in what else comes until the addresses have
// had time to settle.
func (c *Conn) collect(ctx context.Context, seen *watched) error {
	var deadline time.Time // none: wait for ever
	for {
		if deadline.IsZero() && seen.stale {
			deadline = time.Now().Add(settle)
		}
		// What is kept back of a device that had the name is made up for: it is stale then, and all is read.
		if seen.device != c.keptBack {
			if err := c.keepBack(seen.device); err != nil {
				return err
			}
		}
		if err := c.events.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("waiting for netlink events: %w", err)
		}
		if err := ctx.Err(); err != nil { // wake may have come before the deadline was set
			return err
		}
		err := c.receive(seen)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil && seen.stale:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded): // woken
		case err != nil:
			return fmt.Errorf("receiving netlink events: %w", err)
		}
	}
}

// receive takes in one event, or that some did not fit the buffer.
func (c *Conn) receive(seen *watched) error {
	n, err := c.events.Read(c.buffer)
	if errors.Is(err, unix.ENOBUFS) {
		device, up, err := c.links.Device()
		if err != nil {
			return err
		}
		seen.overflow(device, up)
		return nil
	}
	if err != nil {
		return err
	}
	return seen.take(c.buffer[:n])
}
