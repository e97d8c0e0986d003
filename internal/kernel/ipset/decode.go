// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

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

// parseBody splits the body of an answer: a struct nfgenmsg and attributes.
func parseBody(body []byte) ([]netlink.Attribute, error) {
	const header = 4
	if len(body) < header {
		return nil, fmt.Errorf("ipset answer of %d bytes", len(body))
	}
	return netlink.ParseAttributes(body[header:])
}

func parsePart(body []byte) (part, error) {
	attributes, err := parseBody(body)
	if err != nil {
		return part{}, err
	}
	var p part
	var h headerAttributes
	for _, a := range attributes {
		switch a.Type {
		case attrSetName:
			p.name = state.SetName(a.String())
		case attrTypeName:
			h.kind = a.String()
		case attrFamily:
			h.family = a.Uint8()
		case attrContent:
			h.content, err = a.Nested()
		case attrEntries:
			p.entries, err = a.Nested()
		}
		if err != nil {
			return part{}, fmt.Errorf("set %s: %w", p.name, err)
		}
	}
	if p.name == "" {
		return part{}, errors.New("ipset answer without a set name")
	}
	if h.kind == "" {
		return p, nil
	}
	s, err := h.set()
	if err != nil {
		return part{}, fmt.Errorf("header of set %s: %w", p.name, err)
	}
	p.header = &s
	return p, nil
}

// headerAttributes are a set's header as the kernel gives it.
type headerAttributes struct {
	kind    string
	family  uint8
	content []netlink.Attribute
}

func (h headerAttributes) set() (state.Set, error) {
	s := state.Set{Type: state.SetType(h.kind)}
	if s.Type != state.BitmapPort {
		s.Family = familyOf(h.family)
	}
	var odd []string
	ports := [2]uint16{0, lastPort}
	for _, a := range h.content {
		switch a.Type {
		case attrMaxElem:
			s.MaxElem = a.BigUint32()
		case attrBits:
			s.Comment = a.BigUint32()&bitComment != 0
			s.Marks = a.BigUint32()&bitSKBInfo != 0
			odd = append(odd, oddBits(a.BigUint32())...)
		case attrPort:
			ports[0] = a.Port()
		case attrPortTo:
			ports[1] = a.Port()
		case attrTimeout:
			odd = append(odd, fmt.Sprintf("timeout %d", a.BigUint32()))
		case attrNetmask:
			odd = append(odd, fmt.Sprintf("netmask %d", a.Uint8()))
		}
	}
	if !known(s.Type) {
		return s, nil
	}
	if s.Type == state.BitmapPort && ports != [2]uint16{0, lastPort} {
		odd = append(odd, fmt.Sprintf("range %d-%d", ports[0], ports[1]))
	}
	if (s.Type == state.BitmapPort) != (s.Family == 0) {
		return s, fmt.Errorf("type %s with address family %d", s.Type, h.family)
	}
	s.Type = state.SetType(strings.Join(append([]string{string(s.Type)}, odd...), " "))
	return s, nil
}

func oddBits(bits uint32) []string {
	var odd []string
	for _, option := range []struct {
		bit  uint32
		name string
	}{{bitCounters, "counters"}, {bitForceAdd, "forceadd"}} {
		if bits&option.bit != 0 {
			odd = append(odd, option.name)
		}
	}
	if rest := bits &^ bitsOfSet; rest != 0 {
		odd = append(odd, fmt.Sprintf("flags %#x", rest))
	}
	return odd
}

// plain is the type without the options that the package comment tells of.
func plain(t state.SetType) state.SetType {
	name, _, _ := strings.Cut(string(t), " ")
	return state.SetType(name)
}

func familyOf(f uint8) state.Family {
	switch f {
	case unix.AF_INET:
		return state.IPv4
	case unix.AF_INET6:
		return state.IPv6
	}
	return 0
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

// parseEntry decodes one entry of a set of a known type. It has to have what the type says and nothing that
// is not understood.
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

// readBits keeps what an entry of ours never is visible: a nomatch entry has a comment that no wish has.
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

// readMark shows a mask that no entry of ours has in the comment, as above.
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
	attributes, err := parseBody(body)
	if err != nil {
		return 0, 0, err
	}
	for _, a := range attributes {
		switch a.Type {
		case attrProtocol:
			newest = a.Uint8()
		case attrProtocolMin:
			oldest = a.Uint8()
		}
	}
	if oldest == 0 { // kernels that speak only one
		oldest = newest
	}
	return oldest, newest, nil
}

// parseRevision reads the newest revision of a set type that the kernel has.
func parseRevision(body []byte) (uint8, error) {
	attributes, err := parseBody(body)
	if err != nil {
		return 0, err
	}
	for _, a := range attributes {
		if a.Type == attrRevision {
			return a.Uint8(), wants(a, 1)
		}
	}
	return 0, errors.New("ipset answer without a revision")
}
