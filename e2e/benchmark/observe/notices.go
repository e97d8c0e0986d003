// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Notices counts the kernel's notices of addresses, routes and links that come, change and go.
type Notices struct{ socket *nl.NetlinkSocket }

// WatchNotices begins to count in the network namespace of the calling thread.
func WatchNotices() (*Notices, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("listen to the kernel's notices: %w", err)
	}
	const buffer = 32 << 20
	rest := unix.NsecToTimeval(time.Millisecond.Nanoseconds())
	return &Notices{socket}, errors.Join(socket.SetReceiveBufferSize(buffer, true), socket.SetReceiveTimeout(&rest))
}

// Close stops counting, and returns how many notices there were.
func (n *Notices) Close() (count int, err error) {
	defer n.socket.Close()
	for {
		messages, _, err := n.socket.Receive()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return count, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // ENOBUFS: there were more than any program can have made in vain
			return count, fmt.Errorf("read the kernel's notices: %w", err)
		}
		count += len(messages)
	}
}
