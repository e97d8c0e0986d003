// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
)

// Watch reports when another program changes our tables.
type Watch struct {
	events *os.File
	table  string
}

// eventBuffer holds what others change between two reads. What does not fit is an event too.
const eventBuffer = 1 << 20

// Watch opens a watch in the current thread's network namespace. The changes of c itself are kept back by the kernel.
func (c *Conn) Watch() (*Watch, error) {
	port, err := c.socket.Port()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening socket for events of nftables: %w", err)
	}
	w := &Watch{events: os.NewFile(uintptr(fd), "events of nftables"), table: c.table}
	if err := setUp(fd, withoutChangesOf(port)); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up socket for events of nftables: %w", err), w.Close())
	}
	return w, nil
}

func setUp(fd int, filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	buffer := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	if errors.Is(buffer, unix.EPERM) { // the default must do
		buffer = nil
	}
	return errors.Join(
		buffer,
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES),
	)
}

// withoutChangesOf is a filter that keeps back what the socket with a port has changed: all messages of one packet are
// of one transaction, and name the socket that made it in their header.
func withoutChangesOf(port uint32) []unix.SockFilter {
	const atPort = 12
	// The filter loads numbers in network byte order, and the header has the machine's.
	number := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port))
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atPort},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
	}
}

// Close closes the watch.
func (w *Watch) Close() error { return w.events.Close() }

// Run calls each when another program has changed our tables, until ctx ends. Changes that come together are one.
func (w *Watch) Run(ctx context.Context, each func()) error {
	stop := context.AfterFunc(ctx, func() { _ = w.events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.events.Read(buffer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS): // some were lost
			each()
		case err != nil:
			return fmt.Errorf("receiving events of nftables: %w", err)
		case w.about(buffer[:n]):
			each()
		}
	}
}

// about reports whether a packet has a message about our tables. In every kind of them the table's name is the first
// attribute.
func (w *Watch) about(packet []byte) bool {
	for len(packet) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(packet))
		if length < unix.NLMSG_HDRLEN || length > len(packet) {
			return true // not understood
		}
		kind := binary.NativeEndian.Uint16(packet[4:])
		a, err := netlink.ParseBody(packet[unix.NLMSG_HDRLEN:length], header)
		ours := kind != subsystem|unix.NFT_MSG_NEWGEN && a.Get(unix.NFTA_TABLE_NAME).String() == w.table
		if err != nil || ours {
			return true
		}
		packet = packet[min(len(packet), (length+3)&^3):]
	}
	return false
}
