// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Requests is a list of encoded netlink requests. The zero value is empty and ready for use; Reset makes it
// empty again and keeps its memory.
type Requests struct {
	data   []byte
	starts []int // of each request in data
}

// Len is the number of requests.
func (b *Requests) Len() int { return len(b.starts) }

// Body is what follows the netlink header in the request i, for tests of encoders.
func (b *Requests) Body(i int) []byte { return b.data[b.starts[i]+unix.NLMSG_HDRLEN : b.end(i)] }

// Reset empties b.
func (b *Requests) Reset() { b.data, b.starts = b.data[:0], b.starts[:0] }

// Begin starts a request of a netlink type with flags beside NLM_F_REQUEST. What is appended until the next
// Begin is its body.
func (b *Requests) Begin(kind, flags uint16) {
	b.pad()
	b.starts = append(b.starts, len(b.data))
	b.data = append(b.data, make([]byte, unix.NLMSG_HDRLEN)...)
	header := b.data[len(b.data)-unix.NLMSG_HDRLEN:]
	binary.NativeEndian.PutUint16(header[4:], kind)
	binary.NativeEndian.PutUint16(header[6:], flags|unix.NLM_F_REQUEST)
}

// Raw appends bytes as they are: the fixed header of a subsystem.
func (b *Requests) Raw(bytes ...byte) {
	b.data = append(b.data, bytes...)
}

// Bytes appends an attribute.
func (b *Requests) Bytes(kind uint16, value []byte) {
	b.attribute(kind, len(value))
	b.data = append(b.data, value...)
	b.pad()
}

// String appends a NUL-terminated attribute.
func (b *Requests) String(kind uint16, value string) {
	b.attribute(kind, len(value)+1)
	b.data = append(b.data, value...)
	b.data = append(b.data, 0)
	b.pad()
}

// Uint8 appends an attribute of one byte.
func (b *Requests) Uint8(kind uint16, value uint8) {
	b.attribute(kind, 1)
	b.data = append(b.data, value)
	b.pad()
}

// Uint16 appends an attribute in the machine's byte order.
func (b *Requests) Uint16(kind uint16, value uint16) {
	b.attribute(kind, 2)
	b.data = binary.NativeEndian.AppendUint16(b.data, value)
	b.pad()
}

// Uint32 appends an attribute in the machine's byte order.
func (b *Requests) Uint32(kind uint16, value uint32) {
	b.attribute(kind, 4)
	b.data = binary.NativeEndian.AppendUint32(b.data, value)
}

// Port appends an attribute of two bytes in network byte order.
func (b *Requests) Port(kind uint16, value uint16) {
	b.attribute(kind, 2)
	b.data = binary.BigEndian.AppendUint16(b.data, value)
	b.pad()
}

// BigUint32 appends an attribute of four bytes in network byte order.
func (b *Requests) BigUint32(kind uint16, value uint32) {
	b.attribute(kind, 4)
	b.data = binary.BigEndian.AppendUint32(b.data, value)
}

// BigUint64 appends an attribute of eight bytes in network byte order.
func (b *Requests) BigUint64(kind uint16, value uint64) {
	b.attribute(kind, 8)
	b.data = binary.BigEndian.AppendUint64(b.data, value)
}

// Nest appends an attribute whose value is the attributes that inside appends. No attribute can be longer
// than 65,535 bytes: who nests many entries splits them over several requests.
func (b *Requests) Nest(kind uint16, inside func()) {
	start := len(b.data)
	b.attribute(kind|unix.NLA_F_NESTED, 0)
	inside()
	binary.NativeEndian.PutUint16(b.data[start:], uint16(len(b.data)-start))
}

func (b *Requests) attribute(kind uint16, length int) {
	b.data = binary.NativeEndian.AppendUint16(b.data, uint16(unix.SizeofNlAttr+length))
	b.data = binary.NativeEndian.AppendUint16(b.data, kind)
}

func (b *Requests) pad() {
	for len(b.data)%unix.NLMSG_ALIGNTO != 0 {
		b.data = append(b.data, 0)
	}
}

func (b *Requests) end(i int) int {
	if i+1 < len(b.starts) {
		return b.starts[i+1]
	}
	return len(b.data)
}

// full says that the next request may not fit into one sendmsg with those of b.
func (b *Requests) full() bool {
	return b.Len() == chunkRequests || len(b.data) > chunkBytes-roomForOne
}

// chunkEnd is the index behind the last request that goes into one sendmsg with the request from.
func (b *Requests) chunkEnd(from int) int {
	to := from + 1
	for to < b.Len() && to-from < chunkRequests && b.end(to)-b.starts[from] <= chunkBytes {
		to++
	}
	return to
}

// stamp completes the headers of the requests from..to-1: lengths, consecutive sequence numbers, and more
// flags for the last. It returns their bytes.
func (b *Requests) stamp(from, to int, sequence uint32, lastFlags uint16) []byte {
	b.pad()
	for i := from; i < to; i++ {
		header := b.data[b.starts[i]:]
		binary.NativeEndian.PutUint32(header, uint32(b.end(i)-b.starts[i]))
		flags := binary.NativeEndian.Uint16(header[6:]) &^ unix.NLM_F_ACK
		if i == to-1 {
			flags |= lastFlags
		}
		binary.NativeEndian.PutUint16(header[6:], flags)
		binary.NativeEndian.PutUint32(header[8:], sequence+uint32(i-from))
	}
	return b.data[b.starts[from]:b.end(to-1)]
}
