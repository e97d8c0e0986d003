// SPDX-License-Identifier: Apache-2.0

package look

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Notices counts the kernel's own words on addresses, routes and links that come, change and go.
type Notices struct{ socket int }

// WatchNotices begins to count in the network namespace of the calling thread.
func WatchNotices() (*Notices, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a socket for the kernel's notices: %w", err)
	}
	const buffer = 32 << 20
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
	err = errors.Join(
		unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer),
		unix.Bind(socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel's notices: %w", err), unix.Close(socket))
	}
	return &Notices{socket}, nil
}

// Close stops counting, and returns how many there were.
func (n *Notices) Close() (int, error) {
	count, err := n.read()
	return count, errors.Join(err, unix.Close(n.socket))
}

func (n *Notices) read() (int, error) {
	count, buffer := 0, make([]byte, 64<<10)
	for {
		length, _, err := unix.Recvfrom(n.socket, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return count, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // ENOBUFS: there were more than anybody can have made in vain
			return count, fmt.Errorf("read the kernel's notices: %w", err)
		}
		count += countMessages(buffer[:length])
	}
}

func countMessages(text []byte) int {
	count := 0
	for len(text) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(text))
		if length < unix.NLMSG_HDRLEN || length > len(text) {
			break
		}
		count++
		text = text[min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(text)):]
	}
	return count
}
