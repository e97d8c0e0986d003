// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ErrHeld says that another kube-ipvs runs in this network namespace.
var ErrHeld = errors.New("another kube-ipvs already runs in this network namespace")

// instanceName is an abstract unix socket, by the @. The kernel has one per network namespace, as it has the
// tables that kube-ipvs writes, and closes it when the process dies: no file can be left behind.
const instanceName = "@kube-ipvs"

// instanceSocket takes datagrams: a stream would queue a connection for each look at it, and a full queue
// looks like no socket.
func instanceSocket() *net.UnixAddr { return &net.UnixAddr{Name: instanceName, Net: "unixgram"} }

// Hold claims this network namespace for one kube-ipvs until release is called. Two would undo each other's
// work. It returns ErrHeld if another one has it. Any program may take the name, so this is no protection.
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

// Running reports whether a kube-ipvs runs in this network namespace.
func Running() bool {
	c, err := net.DialUnix("unixgram", nil, instanceSocket())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent
	return true
}
