// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// settle is how long to wait for more changes before reading: a device seldom gets just one address.
	settle = 100 * time.Millisecond
	// eventBuffer holds the events of some thousand addresses. If they do not fit, all is read again.
	eventBuffer = 4 << 20
	attempts    = 5
)

// Event is the state of the node after a change. Receivers must not modify it.
type Event struct {
	Addresses []netip.Addr   // all usable addresses: see Usable
	Networks  []netip.Prefix // of the node's devices: see Networks
	Gateways  []netip.Addr   // of all default routes, without IPv6 link-local ones, sorted and unique
	MTU       uint32         // the smallest of the devices by which packets leave the node; 0: there are none

	// LinkLost reports that the device for Service addresses was deleted, renamed or moved since the last event, and
	// all Service addresses with it, even if there is a new one with its name. Or it lost what routes need: it was set
	// down, or lost state.Anchor.
	LinkLost bool
}

// Conn reads and watches the network namespace of the thread that opened it, for one goroutine.
type Conn struct {
	links    *link.Conn
	routes   *netlink.Socket
	requests netlink.Requests
	events   *os.File // an rtnetlink socket
	dropped  int      // the device whose new addresses are dropped
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
		return nil, fmt.Errorf("open netlink event socket: %w", err)
	}
	// Waiting for a file can have a deadline.
	events := os.NewFile(uintptr(fd), "rtnetlink events")
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	if err != nil && !errors.Is(err, unix.EPERM) {
		return nil, errors.Join(fmt.Errorf("set netlink event buffer: %w", err), events.Close())
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind netlink event socket: %w", err), events.Close())
	}
	return events, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	return errors.Join(c.events.Close(), c.routes.Close(), c.links.Close())
}

// assigned returns the addresses of the node's devices. It reads again if the device for Service addresses came or went
// in between, because its addresses could be taken for the node's.
func (c *Conn) assigned(ctx context.Context) ([]netip.Prefix, error) {
	for range attempts {
		before, err1 := c.links.Index()
		assigned, err2 := c.links.AssignedElsewhere(ctx, before)
		after, err3 := c.links.Index()
		if err := cmp.Or(err1, err2, err3); err != nil {
			return nil, err
		}
		if before == after {
			return assigned, nil
		}
	}
	return nil, fmt.Errorf("read addresses while %s comes and goes: %w", state.DummyLink, netlink.ErrInterrupted)
}

// Now returns the present state.
func (c *Conn) Now(ctx context.Context) (Event, error) {
	var seen watched
	e, _, err := c.look(ctx, &seen)
	return e, err
}

// Watch passes the present state to each, and then one event for each change or loss of the device, in the calling
// goroutine. Events from the kernel only trigger reading everything, so an event is always complete and lost ones do
// not matter. Changes in quick succession make one event, Service addresses none.
//
// It returns the context's error when that ends, or why it cannot go on. It can be called again, but does not know what
// happened to the device in between.
func (c *Conn) Watch(ctx context.Context, each func(Event)) error {
	// Listen before reading, so that nothing is missed.
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
	if err := c.drop(device); err != nil {
		return err
	}
	for {
		e, worth, err := c.look(ctx, &seen)
		switch {
		case errors.Is(err, netlink.ErrInterrupted): // it changes too fast to be read, and stays stale
		case err != nil:
			return err
		case worth:
			each(e)
		}
		if err := c.collect(ctx, &seen); err != nil {
			return err
		}
	}
}

// look reads everything and reports whether that is worth an event.
func (c *Conn) look(ctx context.Context, seen *watched) (e Event, worth bool, err error) {
	now, err1 := c.assigned(ctx)
	hops, err2 := c.hops(ctx)
	mtus, err3 := c.mtus(ctx)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return Event{}, false, err
	}
	e, worth = seen.news(now, hops, mtus)
	return e, worth, nil
}

func (c *Conn) join(groups ...int) error {
	for _, g := range groups {
		err := c.control(func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		})
		if err != nil {
			return fmt.Errorf("join netlink group %d: %w", g, err)
		}
	}
	return nil
}

// control calls set with the event socket.
func (c *Conn) control(set func(fd int) error) error {
	raw, err := c.events.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = set(int(fd)) })
	return errors.Join(err, failed)
}

func (c *Conn) wake() { c.events.SetReadDeadline(time.Unix(1, 0)) }

// collect waits for the first event that matters, and then for more until settle is over.
func (c *Conn) collect(ctx context.Context, seen *watched) error {
	var deadline time.Time // none: wait for ever
	for {
		if deadline.IsZero() && seen.stale {
			deadline = time.Now().Add(settle)
		}
		// Drops for an old device do not matter: everything is read, as it is stale.
		if seen.device != c.dropped {
			if err := c.drop(seen.device); err != nil {
				return err
			}
		}
		if err := c.events.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("wait for netlink events: %w", err)
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
			return fmt.Errorf("receive netlink events: %w", err)
		}
	}
}

// receive takes in one event, or the loss of some.
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

// Most events are about Service addresses, which are of no interest here: two for each that kube-ipvs binds, the
// address and its local route. Ten thousand at a start took the watch as long to read as the kernel to make. So a
// program in the kernel drops events that watched does not use.

// Offsets in an event, which begins with struct nlmsghdr.
const (
	typeAt   = 4                       // nlmsghdr.nlmsg_type
	indexAt  = unix.SizeofNlMsghdr + 4 // ifaddrmsg.ifa_index
	lengthAt = unix.SizeofNlMsghdr + 1 // rtmsg.rtm_dst_len
)

// dropping returns a program that drops new addresses of the device, and routes except default routes.
func dropping(device int) []unix.SockFilter {
	const halfword, word, octet = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	const equal, end = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	return []unix.SockFilter{
		{Code: halfword, K: typeAt},
		{Code: equal, K: loaded16(unix.RTM_NEWROUTE), Jt: 4},
		{Code: equal, K: loaded16(unix.RTM_DELROUTE), Jt: 3},
		{Code: equal, K: loaded16(unix.RTM_NEWADDR), Jf: 4},
		{Code: word, K: indexAt},
		{Code: equal, K: loaded32(uint32(device)), Jt: 3, Jf: 2},
		{Code: octet, K: lengthAt},
		{Code: equal, K: 0, Jf: 1},
		{Code: end, K: math.MaxUint32}, // number of bytes that pass
		{Code: end, K: 0},
	}
}

// loaded16 and loaded32 return a number of the machine's byte order as the program loads it.

func loaded16(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}

func loaded32(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}

// drop makes the kernel drop the events of a device: see dropping.
func (c *Conn) drop(device int) error {
	program := dropping(device)
	err := c.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err != nil {
		return fmt.Errorf("filter netlink events: %w", err)
	}
	c.dropped = device
	return nil
}
