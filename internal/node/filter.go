// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// What happens to Service addresses is no news of the node, but most of what the kernel tells: two events for
// each that kube-ipvs binds, the address and its local route. Ten thousand at a start took the watch as long
// to read as the kernel to make. So the kernel is given a program that keeps back what watched has no use
// for.

// Where events have what the program looks at: struct nlmsghdr comes first.
const (
	typeAt   = 4                       // nlmsghdr.nlmsg_type
	indexAt  = unix.SizeofNlMsghdr + 4 // ifaddrmsg.ifa_index
	lengthAt = unix.SizeofNlMsghdr + 1 // rtmsg.rtm_dst_len
)

// keepBack is a program that lets all events pass but addresses that the device got, and routes that are no
// default routes.
func keepBack(device int) []unix.SockFilter {
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
		{Code: end, K: math.MaxUint32}, // so many bytes of it pass
		{Code: end, K: 0},
	}
}

// loaded16 and loaded32 are how the program loads a number of the machine's order.

func loaded16(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}

func loaded32(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}

// keepBack makes the kernel keep back what keepBack says.
func (c *Conn) keepBack(device int) error {
	program := keepBack(device)
	raw, err := c.events.SyscallConn()
	if err == nil {
		controlled := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
				&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		})
		if controlled != nil {
			err = controlled
		}
	}
	if err != nil {
		return fmt.Errorf("filtering netlink events: %w", err)
	}
	c.keptBack = device
	return nil
}
