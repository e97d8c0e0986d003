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

// instanceName is an abstract unix socket, by the @: one per network namespace, closed when the process dies.
const instanceName = "@kube-ipvs"

// instanceSocket takes datagrams: with a stream, connections of Running would fill the queue.
func instanceSocket() *net.UnixAddr { return &net.UnixAddr{Name: instanceName, Net: "unixgram"} }

// Hold claims this network namespace until release is called: two kube-ipvs would undo each other's work. It returns
// ErrHeld if another one has it. Any program may take the name, so this is no protection.
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
