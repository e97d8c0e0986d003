// SPDX-License-Identifier: Apache-2.0

package space

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Numbers of IPVS's netlink family, from linux/ip_vs.h.
const (
	ipvsNewService = 1
	ipvsDelService = 3

	ipvsAttrService = 1

	ipvsServiceFamily   = 1
	ipvsServiceProtocol = 2
	ipvsServiceAddress  = 3
	ipvsServicePort     = 4
	ipvsServiceSched    = 6
	ipvsServiceFlags    = 7
	ipvsServiceTimeout  = 8
	ipvsServiceNetmask  = 9
)

// answerTime is how long the kernel may take to answer: it may have to load a module first.
const answerTime = 10 * time.Second

// attribute encodes one netlink attribute, padded.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func attribute16(kind, value uint16) []byte {
	return attribute(kind, binary.NativeEndian.AppendUint16(nil, value))
}

func attribute32(kind uint16, values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return attribute(kind, b)
}

// request encodes a generic netlink request with an acknowledgement.
func request(family uint16, command uint8, attributes []byte) []byte {
	size := unix.SizeofNlMsghdr + genericHeader + len(attributes)
	b := binary.NativeEndian.AppendUint32(nil, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, family)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(b, make([]byte, 8)...)
	b = append(b, command, 1, 0, 0)
	return append(b, attributes...)
}

// genericHeader is the size of struct genlmsghdr.
const genericHeader = 4

// probeService returns a virtual service at an address for documentation.
func probeService() []byte {
	address := make([]byte, 16)
	copy(address, []byte{192, 0, 2, 1})
	var s []byte
	for _, a := range [][]byte{
		attribute16(ipvsServiceFamily, unix.AF_INET),
		attribute16(ipvsServiceProtocol, unix.IPPROTO_TCP),
		attribute(ipvsServiceAddress, address),
		attribute(ipvsServicePort, []byte{0, 80}),
		attribute(ipvsServiceSched, []byte("rr\x00")),
		attribute32(ipvsServiceFlags, 0, ^uint32(0)),
		attribute32(ipvsServiceTimeout, 0),
		attribute32(ipvsServiceNetmask, ^uint32(0)),
	} {
		s = append(s, a...)
	}
	return attribute(ipvsAttrService|unix.NLA_F_NESTED, s)
}

// parseAnswer reads the kernel's answer: the value of the wanted attribute, if there is one, and whether the
// acknowledgement, which carries the error, has been seen.
func parseAnswer(b []byte, want uint16) (value []byte, acked bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr+genericHeader || size > len(b) {
			return nil, false, errors.New("netlink message with a wrong length")
		}
		body := b[unix.SizeofNlMsghdr:size]
		if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
			if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return nil, true, unix.Errno(-code)
			}
			return value, true, nil
		}
		value = findAttribute(body[genericHeader:], want)
		b = b[min(len(b), (size+3)&^3):]
	}
	return value, false, nil
}

func findAttribute(b []byte, want uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == want {
			return b[unix.SizeofRtAttr:size]
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}

// generic is a generic netlink socket.
type generic struct{ fd int }

func dialGeneric() (generic, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return generic{}, fmt.Errorf("open generic netlink: %w", err)
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return generic{}, errors.Join(fmt.Errorf("limit the wait for netlink: %w", err), unix.Close(fd))
	}
	return generic{fd}, nil
}

func (g generic) close() { unix.Close(g.fd) }

// family returns the number of a netlink family.
func (g generic) family(name string) (uint16, error) {
	a := attribute(unix.CTRL_ATTR_FAMILY_NAME, append([]byte(name), 0))
	id, err := g.exchange(request(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, a), unix.CTRL_ATTR_FAMILY_ID)
	if err != nil {
		return 0, err
	}
	if len(id) != 2 {
		return 0, errors.New("the answer has no family number")
	}
	return binary.NativeEndian.Uint16(id), nil
}

// ask sends one command and returns the kernel's verdict.
func (g generic) ask(family uint16, command uint8, attributes []byte) error {
	_, err := g.exchange(request(family, command, attributes), 0)
	return err
}

func (g generic) exchange(message []byte, want uint16) ([]byte, error) {
	if err := unix.Sendto(g.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var found []byte
	b := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(g.fd, b, 0)
		if err != nil {
			return nil, err
		}
		value, acked, err := parseAnswer(b[:n], want)
		if value != nil {
			found = append([]byte(nil), value...)
		}
		if err != nil || acked {
			return found, err
		}
	}
}
