// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// typeMask is the kernel's NLA_TYPE_MASK: an attribute's type without its nested and byte-order bits.
const typeMask = 0x3fff

// Attribute is one decoded netlink attribute. Value is a part of the bytes it was parsed from.
type Attribute struct {
	Type  uint16 // without the nested and byte-order bits
	Value []byte
}

// Attributes are the attributes of a message or of a nest, in order.
type Attributes []Attribute

// Get returns the first attribute of a type, or one without a Value.
func (l Attributes) Get(kind uint16) Attribute {
	for _, a := range l {
		if a.Type == kind {
			return a
		}
	}
	return Attribute{}
}

// Has reports whether there is an attribute of a type.
func (l Attributes) Has(kind uint16) bool { return l.Get(kind).Value != nil }

// ParseBody splits the body of a message, which begins with a header of fixed size, into its attributes.
func ParseBody(body []byte, header int) (Attributes, error) {
	if len(body) < header {
		return nil, fmt.Errorf("message of %d bytes", len(body))
	}
	return ParseAttributes(body[header:])
}

// ParseAttributes splits data into its attributes.
func ParseAttributes(data []byte) (Attributes, error) {
	attributes := make(Attributes, 0, min(16, (len(data)+7)/8))
	err := EachAttribute(data, func(a Attribute) { attributes = append(attributes, a) })
	if err != nil {
		return nil, err
	}
	return attributes, nil
}

// EachAttribute calls each with the attributes of data, in order, until one is malformed.
func EachAttribute(data []byte, each func(Attribute)) error {
	for len(data) > 0 {
		if len(data) < unix.SizeofNlAttr {
			return fmt.Errorf("netlink attribute cut off after %d bytes", len(data))
		}
		length := int(binary.NativeEndian.Uint16(data))
		if length < unix.SizeofNlAttr || length > len(data) {
			return fmt.Errorf("netlink attribute claims %d bytes of %d", length, len(data))
		}
		each(Attribute{
			Type:  binary.NativeEndian.Uint16(data[2:]) & typeMask,
			Value: data[unix.SizeofNlAttr:length],
		})
		data = data[min(align(length), len(data)):]
	}
	return nil
}

// Nested returns the attributes inside a.
func (a Attribute) Nested() (Attributes, error) { return ParseAttributes(a.Value) }

// String returns the value up to its first NUL.
func (a Attribute) String() string {
	text, _, _ := bytes.Cut(a.Value, []byte{0})
	return string(text)
}

// Numbers are in the machine's byte order; Port and Big... in network byte order. A value that is too short is 0.

func (a Attribute) Uint8() uint8      { return number(a, 1, func(v []byte) uint8 { return v[0] }) }
func (a Attribute) Uint16() uint16    { return number(a, 2, binary.NativeEndian.Uint16) }
func (a Attribute) Uint32() uint32    { return number(a, 4, binary.NativeEndian.Uint32) }
func (a Attribute) Uint64() uint64    { return number(a, 8, binary.NativeEndian.Uint64) }
func (a Attribute) Port() uint16      { return number(a, 2, binary.BigEndian.Uint16) }
func (a Attribute) BigUint32() uint32 { return number(a, 4, binary.BigEndian.Uint32) }
func (a Attribute) BigUint64() uint64 { return number(a, 8, binary.BigEndian.Uint64) }

func number[N any](a Attribute, size int, read func([]byte) N) (n N) {
	if len(a.Value) >= size {
		n = read(a.Value)
	}
	return n
}

// FamilyNumber returns the kernel's number of a family, AF_UNSPEC for none, as of a set of ports alone.
func FamilyNumber(f state.Family) uint8 {
	switch f {
	case state.IPv4:
		return unix.AF_INET
	case state.IPv6:
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}

// FamilyOf returns the family of a kernel's number, 0 for one that we do not handle.
func FamilyOf(number uint16) state.Family {
	switch number {
	case unix.AF_INET:
		return state.IPv4
	case unix.AF_INET6:
		return state.IPv6
	}
	return 0
}
