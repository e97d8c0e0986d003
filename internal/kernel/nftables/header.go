// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// nft's numbers of the types of data, by which it prints a set. The kernel keeps them and looks at the lengths alone.
const (
	typeIPv4     = 7
	typeIPv6     = 8
	typeProtocol = 12
	typePort     = 13
	typeBits     = 6 // of each part of a concatenation
)

// What the unix package lacks (linux/netfilter/nf_tables.h).
const (
	setConcat      = 0x80 // NFT_SET_CONCAT
	setDescConcat  = 2    // NFTA_SET_DESC_CONCAT
	setFieldLength = 1    // NFTA_SET_FIELD_LEN
	elementKeyEnd  = 10   // NFTA_SET_ELEM_KEY_END
	setCount       = 20   // NFTA_SET_COUNT, of new kernels
)

// shape is how the elements of a set are laid out. Each part of a key begins at a multiple of four bytes.
type shape struct {
	parts []part
	data  part // what an element leads to; no length: nothing
	net   bool // the last part is an interval
}

type part struct{ kind, length uint32 }

func protocolPart() part { return part{typeProtocol, 1} }
func portPart() part     { return part{typePort, 2} }

func addressPart(f state.Family) part {
	if f == state.IPv6 {
		return part{typeIPv6, 16}
	}
	return part{typeIPv4, 4}
}

// shapeOf returns the shape of a set in the table of family f; false: we make none of that type.
func shapeOf(f state.Family, t state.SetType) (shape, bool) {
	address, frontend := addressPart(f), []part{addressPart(f), protocolPart(), portPart()}
	switch t {
	case state.HashIP:
		return shape{parts: []part{address}}, true
	case state.HashIPPort:
		return shape{parts: frontend}, true
	case state.HashIPPortIP:
		return shape{parts: append(frontend, address)}, true
	case state.HashIPPortNet:
		return shape{parts: append(frontend, address), net: true}, true
	case state.BitmapPort:
		return shape{parts: []part{portPart()}}, true
	case state.MapIPPortToPort:
		return shape{parts: frontend, data: portPart()}, true
	case state.MapIPPortToIP:
		return shape{parts: frontend, data: address}, true
	}
	return shape{}, false
}

func setTypes() []state.SetType {
	return []state.SetType{
		state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet, state.BitmapPort,
		state.MapIPPortToPort, state.MapIPPortToIP,
	}
}

// padded is the room that a part takes in a key.
func (p part) padded() uint32 { return (p.length + 3) &^ 3 }

// keyLength is the length of a key. That of a single part has no padding.
func (s shape) keyLength() uint32 {
	if len(s.parts) == 1 {
		return s.parts[0].length
	}
	n := uint32(0)
	for _, p := range s.parts {
		n += p.padded()
	}
	return n
}

func (s shape) keyType() uint32 {
	n := uint32(0)
	for _, p := range s.parts {
		n = n<<typeBits | p.kind
	}
	return n
}

func (s shape) flags() uint32 {
	n := uint32(0)
	if s.data.length > 0 {
		n |= unix.NFT_SET_MAP
	}
	if s.net {
		n |= unix.NFT_SET_INTERVAL | setConcat
	}
	return n
}

// makeSet makes a set, which must not be there.
func (c *Conn) makeSet(n state.SetName, v state.Set) {
	s, _ := shapeOf(n.Family(), v.Type)
	c.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, n.Family())
	b := &c.requests
	b.String(unix.NFTA_SET_TABLE, c.table)
	b.String(unix.NFTA_SET_NAME, string(n.Bare()))
	b.BigUint32(unix.NFTA_SET_ID, 1) // needed by the kernel, though nothing in the transaction uses it
	b.BigUint32(unix.NFTA_SET_FLAGS, s.flags())
	b.BigUint32(unix.NFTA_SET_KEY_TYPE, s.keyType())
	b.BigUint32(unix.NFTA_SET_KEY_LEN, s.keyLength())
	if s.data.length > 0 {
		b.BigUint32(unix.NFTA_SET_DATA_TYPE, s.data.kind)
		b.BigUint32(unix.NFTA_SET_DATA_LEN, s.data.length)
	}
	if s.net {
		b.Nest(unix.NFTA_SET_DESC, func() { b.Nest(setDescConcat, func() { describeParts(b, s.parts) }) })
	}
}

func describeParts(b *netlink.Requests, parts []part) {
	for _, p := range parts {
		b.Nest(unix.NFTA_LIST_ELEM, func() { b.BigUint32(setFieldLength, p.length) })
	}
}

func (c *Conn) deleteSet(n state.SetName) {
	c.begin(unix.NFT_MSG_DELSET, 0, n.Family())
	c.requests.String(unix.NFTA_SET_TABLE, c.table)
	c.requests.String(unix.NFTA_SET_NAME, string(n.Bare()))
}

// parseSet reads a set's name and header. A set that we would not make shows its numbers as its type, so that a diff
// finds it.
func parseSet(f state.Family, a netlink.Attributes) (state.SetName, state.Set) {
	name := state.SetName(a.Get(unix.NFTA_SET_NAME).String()).On(state.OnNFTables)
	flags, kind, length := a.Get(unix.NFTA_SET_FLAGS).BigUint32(), a.Get(unix.NFTA_SET_KEY_TYPE).BigUint32(), a.Get(unix.NFTA_SET_KEY_LEN).BigUint32()
	data := a.Get(unix.NFTA_SET_DATA_TYPE).BigUint32()
	description, _ := a.Get(unix.NFTA_SET_DESC).Nested()
	most := description.Get(unix.NFTA_SET_DESC_SIZE).BigUint32()
	for _, t := range setTypes() {
		s, _ := shapeOf(f, t)
		if s.flags() == flags && s.keyType() == kind && s.keyLength() == length && s.data.kind == data && most == 0 {
			return name, headerOf(f, t)
		}
	}
	return name, state.Set{Type: state.SetType(fmt.Sprintf("type %d, length %d, data %d, flags %#x, size %d", kind, length, data, flags, most)), Family: f, Comment: true}
}

// headerOf returns the only header that a set of a type has here.
func headerOf(f state.Family, t state.SetType) state.Set {
	if t == state.BitmapPort {
		f = 0
	}
	return state.Set{Type: t, Family: f, Comment: true}
}
