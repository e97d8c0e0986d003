// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Requests is a list of encoded netlink requests. The zero value is empty and ready for use.
type Requests struct {
	data   []byte
	starts []int   // of each request in data
	number [8]byte // that is being appended
}

// Len returns the number of requests.
func (b *Requests) Len() int { return len(b.starts) }

// Body returns what follows the netlink header in the request i.
func (b *Requests) Body(i int) []byte { return b.data[b.starts[i]+unix.NLMSG_HDRLEN : b.end(i)] }

// Reset empties b and keeps its memory.
func (b *Requests) Reset() { b.data, b.starts = b.data[:0], b.starts[:0] }

// Begin starts a request with flags besides NLM_F_REQUEST. What is appended until the next Begin is its body.
func (b *Requests) Begin(kind, flags uint16) {
	b.pad()
	b.starts = append(b.starts, len(b.data))
	b.data = append(b.data, make([]byte, unix.NLMSG_HDRLEN)...)
	header := b.data[len(b.data)-unix.NLMSG_HDRLEN:]
	binary.NativeEndian.PutUint16(header[4:], kind)
	binary.NativeEndian.PutUint16(header[6:], flags|unix.NLM_F_REQUEST)
}

// Raw appends bytes as they are: the fixed header of a subsystem.
func (b *Requests) Raw(bytes ...byte) { b.data = append(b.data, bytes...) }

// Bytes appends an attribute.
func (b *Requests) Bytes(kind uint16, value []byte) {
	b.header(kind, len(value))
	b.data = append(b.data, value...)
	b.pad()
}

// String appends a NUL-terminated attribute.
func (b *Requests) String(kind uint16, value string) {
	b.header(kind, len(value)+1)
	b.data = append(b.data, value...)
	b.data = append(b.data, 0)
	b.pad()
}

// Numbers are appended in the machine's byte order; by Port, BigUint32 and BigUint64 in network byte order.

func (b *Requests) Uint8(kind uint16, n uint8) { b.Bytes(kind, append(b.number[:0], n)) }
func (b *Requests) Uint16(kind uint16, n uint16) {
	b.Bytes(kind, binary.NativeEndian.AppendUint16(b.number[:0], n))
}
func (b *Requests) Uint32(kind uint16, n uint32) {
	b.Bytes(kind, binary.NativeEndian.AppendUint32(b.number[:0], n))
}
func (b *Requests) Port(kind uint16, n uint16) {
	b.Bytes(kind, binary.BigEndian.AppendUint16(b.number[:0], n))
}
func (b *Requests) BigUint32(kind uint16, n uint32) {
	b.Bytes(kind, binary.BigEndian.AppendUint32(b.number[:0], n))
}
func (b *Requests) BigUint64(kind uint16, n uint64) {
	b.Bytes(kind, binary.BigEndian.AppendUint64(b.number[:0], n))
}

// Nest appends an attribute whose value is the attributes that inside appends, 65,535 bytes at most.
func (b *Requests) Nest(kind uint16, inside func()) {
	start := len(b.data)
	b.header(kind|unix.NLA_F_NESTED, 0)
	inside()
	binary.NativeEndian.PutUint16(b.data[start:], uint16(len(b.data)-start))
}

// header appends the header of an attribute whose value has length bytes.
func (b *Requests) header(kind uint16, length int) {
	b.data = binary.NativeEndian.AppendUint16(b.data, uint16(unix.SizeofNlAttr+length))
	b.data = binary.NativeEndian.AppendUint16(b.data, kind)
}

func (b *Requests) pad() {
	b.data = append(b.data, make([]byte, align(len(b.data))-len(b.data))...)
}

func (b *Requests) end(i int) int {
	if i+1 < len(b.starts) {
		return b.starts[i+1]
	}
	return len(b.data)
}

// full reports whether the next request may not fit into one sendmsg with those of b.
func (b *Requests) full() bool {
	return b.Len() == chunkRequests || len(b.data) > chunkBytes-roomForOne
}

// chunkEnd returns the index behind the last request that fits into one sendmsg with the request from.
func (b *Requests) chunkEnd(from int) int {
	to := from + 1
	for to < b.Len() && to-from < chunkRequests && b.end(to)-b.starts[from] <= chunkBytes {
		to++
	}
	return to
}

// stamp completes the headers of the requests from..to-1 and returns their bytes: lengths, consecutive sequence
// numbers, and more flags for the last.
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
