// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// typeMask is the kernel's NLA_TYPE_MASK: an attribute's type without its nested and byte-order bits.
const typeMask = 0x3fff

// Attribute is one decoded netlink attribute. Value is a part of the bytes it was parsed from.
type Attribute struct {
	Type  uint16 // without the nested and byte-order bits
	Value []byte
}

// ParseAttributes splits data into its attributes.
func ParseAttributes(data []byte) ([]Attribute, error) {
	var attributes []Attribute
	err := EachAttribute(data, func(a Attribute) { attributes = append(attributes, a) })
	if err != nil {
		return nil, err
	}
	return attributes, nil
}

// EachAttribute calls each with the attributes of data, in order. After an error what it was called with is
// of no use.
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

// Nested are the attributes inside a.
func (a Attribute) Nested() ([]Attribute, error) { return ParseAttributes(a.Value) }

// String is the value up to its first NUL.
func (a Attribute) String() string {
	for i, c := range a.Value {
		if c == 0 {
			return string(a.Value[:i])
		}
	}
	return string(a.Value)
}

// Uint8 is the value of one byte; 0 if it is shorter.
func (a Attribute) Uint8() uint8 {
	if len(a.Value) < 1 {
		return 0
	}
	return a.Value[0]
}

// Uint16 is the value in the machine's byte order; 0 if it is shorter.
func (a Attribute) Uint16() uint16 {
	if len(a.Value) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(a.Value)
}

// Uint32 is the value in the machine's byte order; 0 if it is shorter.
func (a Attribute) Uint32() uint32 {
	if len(a.Value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(a.Value)
}

// Uint64 is the value in the machine's byte order; 0 if it is shorter.
func (a Attribute) Uint64() uint64 {
	if len(a.Value) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(a.Value)
}

// Port is the value of two bytes in network byte order; 0 if it is shorter.
func (a Attribute) Port() uint16 {
	if len(a.Value) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a.Value)
}

// BigUint64 is the value of eight bytes in network byte order; 0 if it is shorter.
func (a Attribute) BigUint64() uint64 {
	if len(a.Value) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a.Value)
}

// BigUint32 is the value of four bytes in network byte order; 0 if it is shorter.
func (a Attribute) BigUint32() uint32 {
	if len(a.Value) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.Value)
}
