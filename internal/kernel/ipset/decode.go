// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// part is one message of a dump: of a set's first one the header, and some entries, not yet decoded.
type part struct {
	name    state.SetName
	header  *state.Set
	entries []netlink.Attribute
}

// headerSize is the size of a struct nfgenmsg.
const headerSize = 4

func parsePart(body []byte) (part, error) {
	attributes, err := netlink.ParseBody(body, headerSize)
	if err != nil {
		return part{}, err
	}
	p := part{name: state.SetName(attributes.Get(attrSetName).String())}
	if p.name == "" {
		return part{}, errors.New("ipset answer without a set name")
	}
	if p.entries, err = attributes.Get(attrEntries).Nested(); err != nil {
		return part{}, fmt.Errorf("set %s: %w", p.name, err)
	}
	kind := state.SetType(attributes.Get(attrTypeName).String())
	if kind == "" {
		return p, nil
	}
	s, err := parseHeader(kind, attributes.Get(attrFamily).Uint8(), attributes.Get(attrContent))
	if err != nil {
		return part{}, fmt.Errorf("header of set %s: %w", p.name, err)
	}
	p.header = &s
	return p, nil
}

func (p part) decode(kind state.SetType, rows map[state.SetEntry]state.Entry) error {
	if !known(kind) {
		return fmt.Errorf("set %s has the unknown type %q", p.name, kind)
	}
	for _, a := range p.entries {
		k, v, err := parseEntry(p.name, kind, a)
		if err != nil {
			return err
		}
		rows[k] = v
	}
	return nil
}

func parseHeader(kind state.SetType, family uint8, content netlink.Attribute) (state.Set, error) {
	attributes, err := content.Nested()
	if err != nil {
		return state.Set{}, err
	}
	s := state.Set{Type: kind}
	if kind != state.BitmapPort {
		s.Family = netlink.FamilyOf(uint16(family))
	}
	s.MaxElem = attributes.Get(attrMaxElem).BigUint32()
	bits := attributes.Get(attrBits).BigUint32()
	s.Comment, s.Marks = bits&bitComment != 0, bits&bitSKBInfo != 0
	if !known(kind) {
		return s, nil
	}
	if (kind == state.BitmapPort) != (s.Family == 0) {
		return s, fmt.Errorf("type %s with address family %d", kind, family)
	}
	s.Type += state.SetType(oddOptions(kind, attributes))
	return s, nil
}

// oddOptions spells the options of a set that none of ours has.
func oddOptions(kind state.SetType, header netlink.Attributes) (odd string) {
	bits := header.Get(attrBits).BigUint32()
	if bits&bitCounters != 0 {
		odd += " counters"
	}
	if bits&bitForceAdd != 0 {
		odd += " forceadd"
	}
	if rest := bits &^ bitsOfSet; rest != 0 {
		odd += fmt.Sprintf(" flags %#x", rest)
	}
	if header.Has(attrTimeout) {
		odd += fmt.Sprintf(" timeout %d", header.Get(attrTimeout).BigUint32())
	}
	if header.Has(attrNetmask) {
		odd += fmt.Sprintf(" netmask %d", header.Get(attrNetmask).Uint8())
	}
	first, last := header.Get(attrPort).Port(), header.Get(attrPortTo).Port()
	if kind == state.BitmapPort && (first != 0 || last != lastPort) {
		odd += fmt.Sprintf(" range %d-%d", first, last)
	}
	return odd
}

// plain returns the type without the options that headers show behind it.
func plain(t state.SetType) state.SetType {
	name, _, _ := strings.Cut(string(t), " ")
	return state.SetType(name)
}

// sizeOf returns the size of an attribute of an entry, 0 if any will do.
func sizeOf(kind uint16) (size int, known bool) {
	switch kind {
	case attrProto, attrCIDR2:
		return 1, true
	case attrPort:
		return 2, true
	case attrBits:
		return 4, true
	case attrSKBMark:
		return 8, true
	case attrIP, attrIP2, attrComment, attrTimeout, attrBytes, attrPackets, attrSKBPrio, attrSKBQueue, attrPad:
		return 0, true
	}
	return 0, false
}

// entryAttributes returns the attributes of an entry: those that the type requires, and none unknown.
func entryAttributes(t state.SetType, content netlink.Attribute) (netlink.Attributes, error) {
	if content.Type != attrContent {
		return nil, fmt.Errorf("attribute %d where an entry should be", content.Type)
	}
	attributes, err := content.Nested()
	if err != nil {
		return nil, err
	}
	for _, a := range attributes {
		size, known := sizeOf(a.Type)
		if !known || a.Type == attrCIDR2 && t != state.HashIPPortNet {
			return nil, fmt.Errorf("attribute %d is unknown for type %s", a.Type, t)
		}
		if size > 0 && len(a.Value) != size {
			return nil, fmt.Errorf("attribute %d of %d bytes, not %d", a.Type, len(a.Value), size)
		}
	}
	for _, required := range []struct {
		kind uint16
		is   bool
	}{
		{attrIP, t != state.BitmapPort},
		{attrPort, t != state.HashIP},
		{attrProto, t != state.HashIP && t != state.BitmapPort},
		{attrIP2, t == state.HashIPPortIP || t == state.HashIPPortNet},
	} {
		if attributes.Has(required.kind) != required.is {
			return nil, fmt.Errorf("attribute %d does not fit type %s", required.kind, t)
		}
	}
	return attributes, nil
}

func parseEntry(name state.SetName, t state.SetType, content netlink.Attribute) (k state.SetEntry, v state.Entry, err error) {
	attributes, err := entryAttributes(t, content)
	if err == nil {
		k, err = parseKey(name, attributes)
	}
	if err == nil {
		v, err = parseValue(attributes)
	}
	if err != nil {
		return state.SetEntry{}, state.Entry{}, fmt.Errorf("entry of set %s: %w", name, err)
	}
	return k, v, nil
}

func parseKey(name state.SetName, entry netlink.Attributes) (k state.SetEntry, err error) {
	k = state.SetEntry{Set: name, Port: entry.Get(attrPort).Port(), Protocol: state.Protocol(entry.Get(attrProto).Uint8())}
	if entry.Has(attrProto) && k.Protocol == 0 {
		return k, errors.New("protocol 0")
	}
	if entry.Has(attrIP) {
		if k.Address, err = parseAddress(entry.Get(attrIP)); err != nil {
			return k, err
		}
	}
	if !entry.Has(attrIP2) {
		return k, nil
	}
	source, err := parseAddress(entry.Get(attrIP2))
	if err != nil {
		return k, err
	}
	length := source.BitLen()
	if entry.Has(attrCIDR2) {
		length = int(entry.Get(attrCIDR2).Uint8())
	}
	k.Source = netip.PrefixFrom(source, length)
	if length == 0 || !k.Source.IsValid() || k.Source != k.Source.Masked() || source.Is4() != k.Address.Is4() {
		return k, fmt.Errorf("source %v/%d", source, length)
	}
	return k, nil
}

// parseValue shows in the comment what no entry of ours has: nomatch, and a mask of the mark.
func parseValue(entry netlink.Attributes) (state.Entry, error) {
	v := state.Entry{Comment: entry.Get(attrComment).String(), Mark: uint32(entry.Get(attrSKBMark).BigUint64() >> 32)}
	bits := entry.Get(attrBits).BigUint32()
	if bits&^bitNoMatch != 0 {
		return v, fmt.Errorf("unknown flags %#x", bits)
	}
	if bits != 0 {
		v.Comment = "nomatch " + v.Comment
	}
	if mask := uint32(entry.Get(attrSKBMark).BigUint64()); entry.Has(attrSKBMark) && mask != wholeMark {
		v.Comment = fmt.Sprintf("mask %#x ", mask) + v.Comment
	}
	return v, nil
}

func parseAddress(a netlink.Attribute) (netip.Addr, error) {
	inside, err := a.Nested()
	if err != nil {
		return netip.Addr{}, err
	}
	if len(inside) != 1 {
		return netip.Addr{}, fmt.Errorf("address of %d attributes", len(inside))
	}
	value := inside[0].Value
	switch {
	case inside[0].Type == attrIPv4 && len(value) == 4:
		return netip.AddrFrom4([4]byte(value)), nil
	case inside[0].Type == attrIPv6 && len(value) == 16:
		return netip.AddrFrom16([16]byte(value)), nil
	}
	return netip.Addr{}, fmt.Errorf("address of type %d with %d bytes", inside[0].Type, len(value))
}

func parseProtocol(body []byte) (oldest, newest uint8, err error) {
	attributes, err := netlink.ParseBody(body, headerSize)
	newest = attributes.Get(attrProtocol).Uint8()
	return cmp.Or(attributes.Get(attrProtocolMin).Uint8(), newest), newest, err // some kernels speak only one
}

func parseRevision(body []byte) (uint8, error) {
	attributes, err := netlink.ParseBody(body, headerSize)
	if err != nil {
		return 0, err
	}
	revision := attributes.Get(attrRevision)
	if len(revision.Value) != 1 {
		return 0, errors.New("ipset answer without a revision")
	}
	return revision.Uint8(), nil
}
