// SPDX-License-Identifier: Apache-2.0

package state

// A virtual server of ours may be known by a firewall mark: those that older versions made, which drain and go. The
// mark named one port of one Service, or all its ports of a protocol:
//
//	bits 31-24  0x4b
//	bits 23-22  the protocol: 1 TCP, 2 UDP, 3 SCTP
//	bit  21     its packets were masqueraded
//	bits 20-0   which: below 65536 the NodePort, else a hash
const (
	markPrefix  = 0x4b
	markShift   = 24
	portBits    = 21
	kindBits    = 22
	protocolTCP = 1
	protocolUDP = 2
	protocolSCT = 3
)

// MarkMask covers the bits by which a mark is known as ours, MarkValue.
const (
	MarkValue uint32 = markPrefix << markShift
	MarkMask  uint32 = 0xff << markShift
)

// MarkOf is the mark for a port of protocol p. A port that is not the NodePort (1 to 65535) of one protocol is a
// hash: of it all bits count.
func MarkOf(p Protocol, nodePort uint16, hash uint32) uint32 {
	id := uint32(nodePort)
	if id == 0 {
		const numbers, all = 1 << 16, 1 << portBits
		id = numbers + hash%(all-numbers)
	}
	return MarkValue | protocolBits(p)<<kindBits | id
}

func protocolBits(p Protocol) uint32 {
	switch p {
	case TCP:
		return protocolTCP
	case UDP:
		return protocolUDP
	case SCTP:
		return protocolSCT
	}
	return 0
}

// OurMark reports whether a mark is one of ours.
func OurMark(mark uint32) bool { return mark&MarkMask == MarkValue }

// MarkProtocol is the protocol that a mark of ours was made for, and 0 for any other mark.
func MarkProtocol(mark uint32) Protocol {
	if !OurMark(mark) {
		return 0
	}
	switch mark >> kindBits & 3 {
	case protocolTCP:
		return TCP
	case protocolUDP:
		return UDP
	case protocolSCT:
		return SCTP
	}
	return 0
}
