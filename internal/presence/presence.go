// SPDX-License-Identifier: Apache-2.0

// Package presence tells whether kube-ipvs runs in a network namespace, by an
// abstract unix socket: the kernel keeps those apart by network namespace, as it
// does the tables that kube-ipvs writes, and closes it when the process dies,
// however that dies. There is no file that could be left behind.
package presence

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ErrHeld says that somebody else is the one kube-ipvs of this network
// namespace.
var ErrHeld = errors.New("another kube-ipvs already runs in this network namespace")

// socket is the name in the network namespace. The @ makes it abstract.
const socket = "@kube-ipvs"

// address is of datagrams: with a stream, each look at it would leave a
// connection in a queue that nobody empties, and a full queue looks like none.
func address() *net.UnixAddr { return &net.UnixAddr{Name: socket, Net: "unixgram"} }

// Hold takes the place of the one kube-ipvs of this network namespace until
// release is called; ErrHeld if it is taken. Two would undo each other's work.
// It is no protection from other programs: any may take the name.
func Hold() (release func() error, err error) {
	l, err := net.ListenUnixgram("unixgram", address())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, ErrHeld
	case err != nil:
		return nil, fmt.Errorf("taking the socket %s: %w", socket, err)
	}
	return l.Close, nil
}

// Held says whether a kube-ipvs runs in this network namespace.
func Held() bool {
	c, err := net.DialUnix("unixgram", nil, address())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was said on it
	return true
}
