// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// User data is pieces with a byte for the kind and one for the length. An element has one piece, which nft prints as a
// comment (libnftnl's NFTNL_UDATA_SET_ELEM_COMMENT), with a final NUL. The kernel takes 254 bytes. It takes 256 as well,
// and forgets them: with its own byte they are one more than fits into the byte for the length.
const (
	commentKind = 0
	maxComment  = 254 - 3
)

// appendElement appends one element to the list of a request.
func (s *shape) appendElement(b *netlink.Requests, e state.SetEntry, v state.Entry) {
	var room [256]byte
	b.Nest(unix.NFTA_LIST_ELEM, func() {
		s.appendKey(b, e)
		if s.data.length > 0 {
			b.Nest(unix.NFTA_SET_ELEM_DATA, func() { b.Bytes(unix.NFTA_DATA_VALUE, s.targetOf(room[:0], e)) })
		}
		if v.Comment != "" {
			b.Bytes(unix.NFTA_SET_ELEM_USERDATA, piece(room[:0], commentKind, v.Comment))
		}
	})
}

func (s *shape) appendKey(b *netlink.Requests, e state.SetEntry) {
	var room [longestKey]byte
	b.Nest(unix.NFTA_SET_ELEM_KEY, func() { b.Bytes(unix.NFTA_DATA_VALUE, s.key(room[:0], e, e.Source.Addr())) })
	if s.net {
		b.Nest(elementKeyEnd, func() { b.Bytes(unix.NFTA_DATA_VALUE, s.key(room[:0], e, lastOf(e.Source))) })
	}
}

// piece appends a piece of user data, a text.
func piece(b []byte, kind byte, text string) []byte {
	b = append(b, kind, byte(len(text)+1))
	return append(append(b, text...), 0)
}

// pieceIn returns the text of the first piece of a kind.
func pieceIn(userData []byte, kind byte) string {
	for len(userData) >= 2 && len(userData) >= 2+int(userData[1]) {
		k, text := userData[0], userData[2:2+int(userData[1])]
		if k == kind && len(text) > 0 {
			return string(text[:len(text)-1])
		}
		userData = userData[2+len(text):]
	}
	return ""
}

// longestKey is an IPv6 address, a protocol, a port, and another address.
const longestKey = 16 + 4 + 4 + 16

// key appends the key of an element, with source as its last address.
func (s *shape) key(b []byte, e state.SetEntry, source netip.Addr) []byte {
	for i, p := range s.parts {
		switch {
		case p.kind == typeProtocol:
			b = append(b, uint8(e.Protocol), 0, 0, 0)
		case p.kind == typePort && len(s.parts) == 1:
			b = binary.BigEndian.AppendUint16(b, e.Port)
		case p.kind == typePort:
			b = append(binary.BigEndian.AppendUint16(b, e.Port), 0, 0)
		case i == 0:
			b = appendAddress(b, e.Address)
		default:
			b = appendAddress(b, source)
		}
	}
	return b
}

func appendAddress(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		bytes := a.As4()
		return append(b, bytes[:]...)
	}
	bytes := a.As16()
	return append(b, bytes[:]...)
}

// targetOf appends what an element leads to: a port at the same address, or another address.
func (s *shape) targetOf(b []byte, e state.SetEntry) []byte {
	to, _ := e.LeadsTo(state.Entry{})
	if s.data.kind == typePort {
		return binary.BigEndian.AppendUint16(b, to.Address.Port())
	}
	return appendAddress(b, to.Address.Addr())
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		bytes := p.Masked().Addr().As4()
		fill(bytes[:], p.Bits())
		return netip.AddrFrom4(bytes)
	}
	bytes := p.Masked().Addr().As16()
	fill(bytes[:], p.Bits())
	return netip.AddrFrom16(bytes)
}

// fill sets all bits from one on.
func fill(bytes []byte, from int) {
	for i := from; i < 8*len(bytes); i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
}

// ports reports whether the elements are ports alone.
func (s *shape) ports() bool { return len(s.parts) == 1 && s.parts[0].kind == typePort }

// frontends reports whether the elements begin with address, protocol and port.
func (s *shape) frontends() bool { return len(s.parts) > 1 }

// sources reports whether the elements end with the address of a client, or a network.
func (s *shape) sources() bool { return len(s.parts) > 3 }

// check returns why a set of this shape can't hold an element.
func (s *shape) check(e state.SetEntry, v state.Entry) error {
	f := e.Set.Family()
	fits := func(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && state.FamilyOf(a) == f }
	switch {
	case s.ports() == e.Address.IsValid() || !s.ports() && !fits(e.Address):
		return fmt.Errorf("the set takes an address of %v first", f)
	case s.frontends() != (e.Protocol != 0) || e.Port != 0 && !s.ports() && !s.frontends() || s.ports() && e.Port == 0:
		return errors.New("its parts are not those of the set's type")
	case s.sources() != e.Source.IsValid() || s.sources() && !fits(e.Source.Addr()):
		return fmt.Errorf("the set takes a source of %v last", f)
	case e.Source.IsValid() && (e.Source != e.Source.Masked() || !s.net && !e.Source.IsSingleIP()):
		return errors.New("its source is no network or, where the set takes no networks, no single address")
	case v.Mark != 0:
		return errors.New("a set of nftables carries no marks")
	case len(v.Comment) > maxComment:
		return fmt.Errorf("its comment has %d bytes, nftables takes %d", len(v.Comment), maxComment)
	}
	if _, leads := e.LeadsTo(v); s.data.length > 0 && !leads {
		return errors.New("it leads nowhere, by the name of its set")
	}
	return nil
}

// parseElement reads one element of a set; not ours: no entry of ours makes such a one. One whose data is not what an
// entry of ours leads to shows that in its comment, so that a diff repairs it.
func (s *shape) parseElement(n state.SetName, a netlink.Attributes) (e state.SetEntry, v state.Entry, ours bool) {
	key, end := valueIn(a.Get(unix.NFTA_SET_ELEM_KEY)), valueIn(a.Get(elementKeyEnd))
	if len(end) == 0 {
		end = key
	}
	if len(key) != int(s.keyLength()) || s.net && len(end) != len(key) {
		return e, v, false
	}
	e = s.parseKey(state.SetEntry{Set: n}, key)
	if s.net {
		e.Source = between(e.Source.Addr(), s.parseKey(state.SetEntry{}, end).Source.Addr())
	}
	var room [longestKey]byte
	if s.check(e, v) != nil || string(s.key(room[:0], e, e.Source.Addr())) != string(key) ||
		s.net && string(s.key(room[:0], e, lastOf(e.Source))) != string(end) {
		return e, v, false
	}
	v.Comment = pieceIn(a.Get(unix.NFTA_SET_ELEM_USERDATA).Value, commentKind)
	if s.data.length > 0 {
		if have := valueIn(a.Get(unix.NFTA_SET_ELEM_DATA)); string(have) != string(s.targetOf(room[:0], e)) {
			v.Comment += fmt.Sprintf(" leads to %x", have)
		}
	}
	return e, v, true
}

// valueIn returns the value in a nest of the kernel's own form for data.
func valueIn(a netlink.Attribute) (value []byte) {
	err := netlink.EachAttribute(a.Value, func(a netlink.Attribute) {
		if a.Type == unix.NFTA_DATA_VALUE {
			value = a.Value
		}
	})
	if err != nil {
		return nil
	}
	return value
}

func (s *shape) parseKey(e state.SetEntry, key []byte) state.SetEntry {
	for i, p := range s.parts {
		value := key[:p.length]
		switch {
		case p.kind == typeProtocol:
			e.Protocol = state.Protocol(value[0])
		case p.kind == typePort:
			e.Port = binary.BigEndian.Uint16(value)
		case i == 0:
			e.Address, _ = netip.AddrFromSlice(value)
		default:
			a, _ := netip.AddrFromSlice(value)
			e.Source = netip.PrefixFrom(a, a.BitLen())
		}
		key = key[min(int(p.padded()), len(key)):]
	}
	return e
}

// between returns the network from first to last, an invalid one if they are not those of one.
func between(first, last netip.Addr) netip.Prefix {
	if first == last {
		return netip.PrefixFrom(first, first.BitLen())
	}
	for bits := range first.BitLen() {
		if p := netip.PrefixFrom(first, bits); p.Masked() == p && lastOf(p) == last {
			return p
		}
	}
	return netip.Prefix{}
}
