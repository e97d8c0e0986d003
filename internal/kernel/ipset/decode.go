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

// part is one message of a dump. A set's first part has its header; each part has some of its entries, not
// yet decoded.
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

// decode decodes the entries of a part of a set of a known type into rows.
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

// parts are which attributes an entry has.
type parts struct{ ip, port, proto, ip2, cidr2 bool }

func partsOf(t state.SetType) parts {
	switch t {
	case state.HashIP:
		return parts{ip: true}
	case state.HashIPPort:
		return parts{ip: true, port: true, proto: true}
	case state.HashIPPortIP:
		return parts{ip: true, port: true, proto: true, ip2: true}
	case state.HashIPPortNet:
		return parts{ip: true, port: true, proto: true, ip2: true, cidr2: true}
	}
	return parts{port: true}
}

// parseEntry decodes one entry of a set of a known type. It has to have what the type requires, and nothing
// unknown.
func parseEntry(name state.SetName, t state.SetType, a netlink.Attribute) (state.SetEntry, state.Entry, error) {
	e := entryAttributes{key: state.SetEntry{Set: name}}
	err := e.read(a)
	want := partsOf(t)
	want.cidr2 = want.cidr2 && e.seen.cidr2 // without one it is a host
	if err == nil && e.seen != want {
		err = fmt.Errorf("the attributes %+v are not those of type %s", e.seen, t)
	}
	if err == nil {
		err = e.complete()
	}
	if err != nil {
		return state.SetEntry{}, state.Entry{}, fmt.Errorf("entry of set %s: %w", name, err)
	}
	return e.key, e.value, nil
}

type entryAttributes struct {
	key    state.SetEntry
	value  state.Entry
	seen   parts
	source netip.Addr
	length uint8 // of the source's prefix
}

func (e *entryAttributes) read(content netlink.Attribute) error {
	if content.Type != attrContent {
		return fmt.Errorf("attribute %d where an entry should be", content.Type)
	}
	attributes, err := content.Nested()
	if err != nil {
		return err
	}
	for _, a := range attributes {
		if err := e.readOne(a); err != nil {
			return err
		}
	}
	return nil
}

func (e *entryAttributes) readOne(a netlink.Attribute) (err error) {
	switch a.Type {
	case attrIP:
		e.seen.ip = true
		e.key.Address, err = parseAddress(a)
	case attrIP2:
		e.seen.ip2 = true
		e.source, err = parseAddress(a)
	case attrPort:
		e.seen.port = true
		e.key.Port, err = a.Port(), wants(a, 2)
	case attrProto:
		e.seen.proto = true
		e.key.Protocol, err = state.Protocol(a.Uint8()), wants(a, 1)
	case attrCIDR2:
		e.seen.cidr2 = true
		e.length, err = a.Uint8(), wants(a, 1)
	case attrComment:
		e.value.Comment += a.String()
	case attrBits:
		err = e.readBits(a)
	case attrSKBMark:
		err = e.readMark(a)
	case attrTimeout, attrBytes, attrPackets, attrSKBPrio, attrSKBQueue, attrPad:
	default:
		err = fmt.Errorf("unknown attribute %d", a.Type)
	}
	return err
}

// readBits shows a nomatch entry, which is never ours, in its comment.
func (e *entryAttributes) readBits(a netlink.Attribute) error {
	bits := a.BigUint32()
	if bits&^bitNoMatch != 0 {
		return fmt.Errorf("unknown flags %#x", bits)
	}
	if bits&bitNoMatch != 0 {
		e.value.Comment = "nomatch " + e.value.Comment
	}
	return wants(a, 4)
}

// readMark shows a mask, which no entry of ours has, in the comment.
func (e *entryAttributes) readMark(a netlink.Attribute) error {
	if err := wants(a, 8); err != nil {
		return err
	}
	e.value.Mark = uint32(a.BigUint64() >> 32)
	if mask := uint32(a.BigUint64()); mask != wholeMark {
		e.value.Comment = fmt.Sprintf("mask %#x ", mask) + e.value.Comment
	}
	return nil
}

func (e *entryAttributes) complete() error {
	if e.seen.proto && e.key.Protocol == 0 {
		return errors.New("protocol 0")
	}
	if !e.seen.ip2 {
		return nil
	}
	length := e.source.BitLen()
	if e.seen.cidr2 {
		length = int(e.length)
	}
	source, err := e.source.Prefix(length)
	switch {
	case err != nil:
		return err
	case length == 0 || source.Addr() != e.source || e.source.Is4() != e.key.Address.Is4():
		return fmt.Errorf("source %v/%d", e.source, length)
	}
	e.key.Source = source
	return nil
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

func wants(a netlink.Attribute, size int) error {
	if len(a.Value) != size {
		return fmt.Errorf("attribute %d of %d bytes, not %d", a.Type, len(a.Value), size)
	}
	return nil
}

// parseProtocol reads the versions of the protocol that the kernel speaks.
func parseProtocol(body []byte) (oldest, newest uint8, err error) {
	attributes, err := netlink.ParseBody(body, headerSize)
	newest = attributes.Get(attrProtocol).Uint8()
	return cmp.Or(attributes.Get(attrProtocolMin).Uint8(), newest), newest, err // some kernels speak only one
}

// parseRevision reads the newest revision of a set type that the kernel has.
func parseRevision(body []byte) (uint8, error) {
	attributes, err := netlink.ParseBody(body, headerSize)
	if err != nil {
		return 0, err
	}
	if !attributes.Has(attrRevision) {
		return 0, errors.New("ipset answer without a revision")
	}
	return attributes.Get(attrRevision).Uint8(), wants(attributes.Get(attrRevision), 1)
}
