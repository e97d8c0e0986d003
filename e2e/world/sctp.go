// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An SCTP socket of the one-to-one style is used like a TCP socket. Package net treats it as one once it is made.

func listenSCTP(on netip.AddrPort) (net.Listener, error) {
	f, err := socketSCTP(on)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, sockaddr(on)); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(f)
}

func dialSCTP(ctx context.Context, port uint16, to netip.AddrPort) (net.Conn, error) {
	from, err := sourceTo(ctx, to)
	if err != nil {
		return nil, err
	}
	from = netip.AddrPortFrom(from.Addr(), port)
	f, err := socketSCTP(to)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var started error
	err = raw.Control(func(fd uintptr) {
		if started = unix.Bind(int(fd), sockaddr(from)); started == nil {
			started = unix.Connect(int(fd), sockaddr(to))
		}
	})
	if err != nil {
		return nil, err
	}
	if started != nil && !errors.Is(started, unix.EINPROGRESS) {
		return nil, os.NewSyscallError("connect", started)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var ended error
	err = raw.Write(func(fd uintptr) bool {
		ended = connected(int(fd))
		return !errors.Is(ended, unix.EINPROGRESS)
	})
	if err := errors.Join(err, os.NewSyscallError("connect", ended)); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// sourceTo returns the address that the kernel sends from. An unbound socket would offer the peer all addresses of the
// host, which on a node with many Services do not fit into one packet.
func sourceTo(ctx context.Context, to netip.AddrPort) (netip.AddrPort, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	return unmap(c.LocalAddr().(*net.UDPAddr).AddrPort()), nil
}

// connected returns how the connecting of a socket went so far.
func connected(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return unix.EINPROGRESS
	}
	return nil
}

// socketSCTP makes a socket of the address's family alone: one for both families would offer the peer addresses of
// both, which no address translation changes.
func socketSCTP(a netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "sctp")
	if family == unix.AF_INET {
		return f, nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		f.Close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return f, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
