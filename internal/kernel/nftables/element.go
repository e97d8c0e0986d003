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
// comment (libnftnl's NFTNL_UDATA_SET_ELEM_COMMENT), with a final NUL. The kernel takes 256 bytes.
const (
	commentKind = 0
	maxComment  = 253
)

// appendElement appends one element to the list of a request.
func (s shape) appendElement(b *netlink.Requests, e state.SetEntry, v state.Entry, key []byte) {
	b.Nest(unix.NFTA_LIST_ELEM, func() {
		s.appendKey(b, e, key)
		if s.data.length > 0 {
			b.Nest(unix.NFTA_SET_ELEM_DATA, func() { b.Bytes(unix.NFTA_DATA_VALUE, s.dataOf(e)) })
		}
		if v.Comment != "" {
			b.Bytes(unix.NFTA_SET_ELEM_USERDATA, piece(key[:0], commentKind, v.Comment))
		}
	})
}

func (s shape) appendKey(b *netlink.Requests, e state.SetEntry, key []byte) {
	b.Nest(unix.NFTA_SET_ELEM_KEY, func() { b.Bytes(unix.NFTA_DATA_VALUE, s.key(key[:0], e, e.Source.Addr())) })
	if s.net {
		b.Nest(elementKeyEnd, func() { b.Bytes(unix.NFTA_DATA_VALUE, s.key(key[:0], e, lastOf(e.Source))) })
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

// key appends the key of an element, with source as its last address.
func (s shape) key(b []byte, e state.SetEntry, source netip.Addr) []byte {
	for i, p := range s.parts {
		switch {
		case p.kind == typeProtocol:
			b = append(b, uint8(e.Protocol), 0, 0, 0)
		case p.kind == typePort && len(s.parts) == 1:
			b = binary.BigEndian.AppendUint16(b, e.Port)
		case p.kind == typePort:
			b = append(binary.BigEndian.AppendUint16(b, e.Port), 0, 0)
		case i == 0:
			b = append(b, e.Address.AsSlice()...)
		default:
			b = append(b, source.AsSlice()...)
		}
	}
	return b
}

// dataOf returns what an element leads to: a port at the same address, or another address.
func (s shape) dataOf(e state.SetEntry) []byte {
	to, _ := e.LeadsTo(state.Entry{})
	if s.data.kind == typePort {
		return binary.BigEndian.AppendUint16(nil, to.Address.Port())
	}
	return to.Address.Addr().AsSlice()
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(bytes); i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// check returns why a set of this shape can't hold an element.
func (s shape) check(e state.SetEntry, v state.Entry) error {
	f := e.Set.Family()
	has := map[uint32]bool{}
	for _, p := range s.parts {
		has[p.kind] = true
	}
	fits := func(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && state.FamilyOf(a) == f }
	addresses := len(s.parts) - 2 // beside protocol and port
	if len(s.parts) == 1 {
		addresses = map[bool]int{true: 0, false: 1}[has[typePort]]
	}
	switch {
	case addresses > 0 != e.Address.IsValid() || addresses > 0 && !fits(e.Address):
		return fmt.Errorf("the set takes an address of %v first", f)
	case has[typeProtocol] != (e.Protocol != 0) || !has[typePort] && e.Port != 0:
		return errors.New("its parts are not those of the set's type")
	case addresses > 1 != e.Source.IsValid() || addresses > 1 && !fits(e.Source.Addr()):
		return fmt.Errorf("the set takes a source of %v last", f)
	case !s.net && e.Source.IsValid() && !e.Source.IsSingleIP():
		return errors.New("the set takes a source that is one address")
	case v.Mark != 0:
		return errors.New("a set of nftables carries no marks")
	case len(v.Comment) > maxComment:
		return fmt.Errorf("its comment has %d bytes, nftables takes %d", len(v.Comment), maxComment)
	}
	return nil
}

// parseElement reads one element of a set. One whose data is not what an entry of ours leads to shows that in its
// comment, so that a diff repairs it.
func (s shape) parseElement(n state.SetName, a netlink.Attributes) (e state.SetEntry, v state.Entry, err error) {
	e.Set = n
	key, end := dataIn(a.Get(unix.NFTA_SET_ELEM_KEY)), dataIn(a.Get(elementKeyEnd))
	if len(key) != int(s.keyLength()) {
		return e, v, fmt.Errorf("element of set %s has a key of %d bytes, not %d", n, len(key), s.keyLength())
	}
	e = s.parseKey(e, key)
	if s.net {
		e.Source = between(e.Source.Addr(), s.parseKey(state.SetEntry{}, pad(end, len(key))).Source.Addr())
	}
	v.Comment = pieceIn(a.Get(unix.NFTA_SET_ELEM_USERDATA).Value, commentKind)
	if s.data.length > 0 {
		if have := dataIn(a.Get(unix.NFTA_SET_ELEM_DATA)); string(have) != string(s.dataOf(e)) {
			v.Comment += fmt.Sprintf(" leads to %x", have)
		}
	}
	return e, v, nil
}

func pad(b []byte, n int) []byte {
	if len(b) == n {
		return b
	}
	return make([]byte, n)
}

func dataIn(a netlink.Attribute) []byte {
	inside, _ := a.Nested()
	return inside.Get(unix.NFTA_DATA_VALUE).Value
}

func (s shape) parseKey(e state.SetEntry, key []byte) state.SetEntry {
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

// between returns the network from first to last. What is no network becomes an invalid one, which no entry of ours
// has.
func between(first, last netip.Addr) netip.Prefix {
	for bits := range first.BitLen() + 1 {
		if p := netip.PrefixFrom(first, bits); p.Masked() == p && lastOf(p) == last {
			return p
		}
	}
	return netip.Prefix{}
}
