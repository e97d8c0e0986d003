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
	// MarkMask covers the bits by which a mark is known as ours, MarkValue.
	MarkMask  uint32 = 0xff << 24
	MarkValue uint32 = 0x4b << 24
)

// OurMark reports whether a mark is one of ours.
func OurMark(mark uint32) bool { return mark&MarkMask == MarkValue }

// MarkProtocol is the protocol that a mark of ours was made for, and 0 for any other mark.
func MarkProtocol(mark uint32) Protocol {
	if !OurMark(mark) {
		return 0
	}
	return [...]Protocol{0, TCP, UDP, SCTP}[mark>>22&3]
}
