// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Most events are about Service addresses, which are of no interest here: two for each that kube-ipvs binds,
// the address and its local route. Ten thousand at a start took the watch as long to read as the kernel to
// make. So a program in the kernel drops events that watched does not use.

// Offsets in an event, which begins with struct nlmsghdr.
const (
	typeAt   = 4                       // nlmsghdr.nlmsg_type
	indexAt  = unix.SizeofNlMsghdr + 4 // ifaddrmsg.ifa_index
	lengthAt = unix.SizeofNlMsghdr + 1 // rtmsg.rtm_dst_len
)

// dropping returns a program that passes all events except addresses that the device got, and routes that are
// not default routes.
func dropping(device int) []unix.SockFilter {
	const halfword, word, octet = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	const equal, end = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	return []unix.SockFilter{
		{Code: halfword, K: typeAt},
		{Code: equal, K: loaded16(unix.RTM_NEWROUTE), Jt: 4},
		{Code: equal, K: loaded16(unix.RTM_DELROUTE), Jt: 3},
		{Code: equal, K: loaded16(unix.RTM_NEWADDR), Jf: 4},
		{Code: word, K: indexAt},
		{Code: equal, K: loaded32(uint32(device)), Jt: 3, Jf: 2},
		{Code: octet, K: lengthAt},
		{Code: equal, K: 0, Jf: 1},
		{Code: end, K: math.MaxUint32}, // number of bytes that pass
		{Code: end, K: 0},
	}
}

// loaded16 and loaded32 return a number of the machine's byte order as the program loads it.

func loaded16(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}

func loaded32(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}

// drop makes the kernel drop the events of a device: see dropping.
func (c *Conn) drop(device int) error {
	program := dropping(device)
	err := c.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err != nil {
		return fmt.Errorf("filter netlink events: %w", err)
	}
	c.dropped = device
	return nil
}
