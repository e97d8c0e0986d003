// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Serve answers on a port of all the host's addresses until the world is closed. TCP and UDP servers answer at later
// addresses, too. An SCTP server would offer its client all addresses, so there is one for each.
func (h *Host) Serve(p state.Protocol, port uint16) error {
	own := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if p == state.SCTP {
		own = h.Addresses
	}
	for _, a := range own {
		if err := h.ServeOn(p, netip.AddrPortFrom(a, port)); err != nil {
			return err
		}
	}
	return nil
}

// ServeOn answers on one address and port until the world is closed: with HTTP over TCP and SCTP, with one datagram for
// each over UDP. An unspecified address stands for all of its family.
func (h *Host) ServeOn(p state.Protocol, on netip.AddrPort) error {
	err := h.Do(func() error {
		if p == state.UDP {
			return h.serveDatagrams(on)
		}
		return h.serveStreams(p, on)
	})
	if err != nil {
		return fmt.Errorf("serve %v on %v of %s: %w", p, on, h.Name, err)
	}
	return nil
}

func (h *Host) serveStreams(p state.Protocol, on netip.AddrPort) error {
	var listener net.Listener
	var err error
	switch p {
	case state.TCP:
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err = config.Listen(context.Background(), "tcp"+digit(on), on.String())
	case state.SCTP:
		listener, err = listenSCTP(on)
	default:
		err = fmt.Errorf("no server speaks %v", p)
	}
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(h.answer), ReadHeaderTimeout: time.Minute}
	h.world.serve(server, func() {
		// Serve always returns an error. After Close it means nothing; before, the client sees it.
		_ = server.Serve(listener)
	})
	return nil
}

func (h *Host) answer(w http.ResponseWriter, r *http.Request) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, Reply{Server: h.Name, Client: unmap(client)})
}

func (h *Host) serveDatagrams(on netip.AddrPort) error {
	config := net.ListenConfig{Control: receiveDestination}
	socket, err := config.ListenPacket(context.Background(), "udp"+digit(on), on.String())
	if err != nil {
		return err
	}
	conn := socket.(*net.UDPConn)
	h.world.serve(conn, func() { h.answerDatagrams(conn) })
	return nil
}

func (h *Host) answerDatagrams(conn *net.UDPConn) {
	question, control := make([]byte, 64<<10), make([]byte, 256)
	for {
		_, n, _, from, err := conn.ReadMsgUDPAddrPort(question, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		reply := Reply{Server: h.Name, Client: unmap(from)}
		// An answer that cannot be sent shows at the client.
		_, _, _ = conn.WriteMsgUDPAddrPort([]byte(reply.String()), source(control[:n]), from)
	}
}

// receiveDestination makes a datagram socket receive each datagram's destination: the answer must come from it, but the
// kernel would choose an address by the route.
func receiveDestination(network, _ string, c syscall.RawConn) error {
	var result error
	err := c.Control(func(fd uintptr) {
		if network == "udp6" {
			result = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			return
		}
		result = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	return errors.Join(err, result)
}

// source turns the control message that came with a datagram into the one for its answer.
func source(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return nil
	}
	switch d := messages[0].Data; {
	case len(d) >= unix.SizeofInet4Pktinfo && messages[0].Header.Level == unix.IPPROTO_IP:
		info := unix.Inet4Pktinfo{}
		copy(info.Spec_dst[:], d[4:8])
		return unix.PktInfo4(&info)
	case len(d) >= unix.SizeofInet6Pktinfo && messages[0].Header.Level == unix.IPPROTO_IPV6:
		info := unix.Inet6Pktinfo{}
		copy(info.Addr[:], d[:16])
		return unix.PktInfo6(&info)
	}
	return nil
}

// digit returns what package net expects after "tcp" and "udp" for one family.
func digit(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "4"
	}
	return "6"
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
