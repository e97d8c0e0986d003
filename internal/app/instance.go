// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// One kube-ipvs may run in a network namespace. It holds an abstract unix socket: the kernel keeps those apart by network
// namespace, as it does the tables that kube-ipvs writes, and closes them when the process dies. No file can be left behind.

// ErrHeld says that somebody else is the one kube-ipvs of this network
// namespace.
var ErrHeld = errors.New("another kube-ipvs already runs in this network namespace")

// instanceName is the name in the network namespace. The @ makes it abstract.
const instanceName = "@kube-ipvs"

// instanceSocket is of datagrams: with a stream, each look at it would leave a
// connection in a queue that nobody empties, and a full queue looks like none.
func instanceSocket() *net.UnixAddr { return &net.UnixAddr{Name: instanceName, Net: "unixgram"} }

// Hold takes the place of the one kube-ipvs of this network namespace until
// release is called; ErrHeld if it is taken. Two would undo each other's work.
// It is no protection from other programs: any may take the name.
func Hold() (release func() error, err error) {
	l, err := net.ListenUnixgram("unixgram", instanceSocket())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, ErrHeld
	case err != nil:
		return nil, fmt.Errorf("taking the socket %s: %w", instanceName, err)
	}
	return l.Close, nil
}

// Running says whether a kube-ipvs runs in this network namespace.
func Running() bool {
	c, err := net.DialUnix("unixgram", nil, instanceSocket())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was said on it
	return true
}
