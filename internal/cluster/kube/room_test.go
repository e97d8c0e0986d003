// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// roomless is a listening socket with the shortest queue there is.
type roomless struct {
	fd      int
	address netip.AddrPort
}

func listenWithoutRoom() (roomless, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return roomless{}, err
	}
	l := roomless{fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return l, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return l, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return l, err
	}
	in, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return l, fmt.Errorf("the name is a %T", name)
	}
	l.address = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	return l, nil
}

func (l roomless) Close() error { return unix.Close(l.fd) }
