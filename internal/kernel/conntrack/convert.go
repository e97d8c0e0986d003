// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const subsystem = unix.NFNL_SUBSYS_CTNETLINK << 8

// What the kernel's nfnetlink_conntrack.h and its ctnetlink call so, and no library has.
const (
	attributeFilter     = 25 // CTA_FILTER
	filterOriginalFlags = 1  // CTA_FILTER_ORIG_FLAGS
	filterByProtocol    = 1 << 3
	filterByServicePort = 1 << 5
	attributeStatusMask = 26     // CTA_STATUS_MASK
	answered            = 1 << 1 // IPS_SEEN_REPLY
	genericSize         = 4      // struct nfgenmsg
)

// addDump appends the request for the entries of w, filtered as far as the kernel does it (5.8 and later; an
// older one sends the whole family). It is never asked for an address: its comparison of IPv6 addresses was
// the wrong way round when this was written, and dropped exactly the entries that match.
func (w walk) addDump(b *netlink.Requests) {
	b.Begin(subsystem|nl.IPCTNL_MSG_CT_GET, 0)
	b.Raw(generic(w.family)...)
	flags := uint32(filterByProtocol)
	if w.port != 0 {
		flags |= filterByServicePort
	}
	b.Nest(attributeFilter, func() { b.Uint32(filterOriginalFlags, flags) })
	b.Nest(nl.CTA_TUPLE_ORIG, func() {
		b.Nest(nl.CTA_TUPLE_PROTO, func() {
			b.Uint8(nl.CTA_PROTO_NUM, uint8(w.protocol))
			b.Port(nl.CTA_PROTO_DST_PORT, w.port)
		})
	})
	if w.silent { // filtered from 5.17 on
		b.BigUint32(nl.CTA_STATUS, 0)
		b.BigUint32(attributeStatusMask, answered)
	}
}

// generic is a struct nfgenmsg.
func generic(f state.Family) []byte {
	return []byte{netlink.FamilyNumber(f), unix.NFNETLINK_V0, 0, 0}
}

// entry is one tracked connection: whose it is, and the kernel's own words by which it can be named again.
// The words are part of the message they came in.
type entry struct {
	flow     state.Flow
	original []byte // CTA_TUPLE_ORIG
	zone     []byte // CTA_ZONE; nil: the default zone
	id       []byte // CTA_ID
	answered bool
}

// parseEntry reads the body of an IPCTNL_MSG_CT_NEW message. It fails for one without both directions, and
// leaves the ports of a protocol without ports 0.
func parseEntry(body []byte) (entry, error) {
	if len(body) < genericSize {
		return entry{}, fmt.Errorf("conntrack message of %d bytes", len(body))
	}
	var e entry
	var reply []byte
	err := eachAttribute(body[genericSize:], func(a netlink.Attribute) error {
		switch a.Type {
		case nl.CTA_TUPLE_ORIG:
			e.original = a.Value
		case nl.CTA_TUPLE_REPLY:
			reply = a.Value
		case nl.CTA_ZONE:
			e.zone = a.Value
		case nl.CTA_ID:
			e.id = a.Value
		case nl.CTA_STATUS:
			e.answered = len(a.Value) == 4 && binary.BigEndian.Uint32(a.Value)&answered != 0
		}
		return nil
	})
	if err != nil {
		return entry{}, fmt.Errorf("conntrack message: %w", err)
	}
	return e, e.flowOf(reply)
}

func (e *entry) flowOf(reply []byte) error {
	there, err := parseTuple(e.original)
	if err != nil {
		return fmt.Errorf("conntrack message, original direction: %w", err)
	}
	back, err := parseTuple(reply)
	if err != nil {
		return fmt.Errorf("conntrack message, reply direction: %w", err)
	}
	e.flow = state.Flow{Protocol: there.protocol, Service: there.to(), Endpoint: back.from()}
	return nil
}

// addDelete appends the request to delete e and nothing else: the kernel compares the id, so not a newer
// connection with the same addresses and ports either. (A request without a tuple would delete everything.)
func (e entry) addDelete(b *netlink.Requests) {
	b.Begin(subsystem|nl.IPCTNL_MSG_CT_DELETE, 0)
	b.Raw(generic(state.FamilyOf(e.flow.Service.Addr()))...)
	b.Bytes(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, e.original)
	if e.zone != nil {
		b.Bytes(nl.CTA_ZONE, e.zone)
	}
	if e.id != nil {
		b.Bytes(nl.CTA_ID, e.id)
	}
}

// tuple is one direction of a connection.
type tuple struct {
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	protocol                    state.Protocol
}

func (t tuple) from() netip.AddrPort { return netip.AddrPortFrom(t.source, t.sourcePort) }
func (t tuple) to() netip.AddrPort   { return netip.AddrPortFrom(t.destination, t.destinationPort) }

func parseTuple(raw []byte) (tuple, error) {
	var t tuple
	err := eachAttribute(raw, func(part netlink.Attribute) error {
		switch part.Type {
		case nl.CTA_TUPLE_IP:
			return eachAttribute(part.Value, t.setAddress)
		case nl.CTA_TUPLE_PROTO:
			return eachAttribute(part.Value, t.setProtocol)
		}
		return nil
	})
	if err != nil {
		return tuple{}, err
	}
	if !t.source.IsValid() || !t.destination.IsValid() || t.source.Is4() != t.destination.Is4() {
		return tuple{}, fmt.Errorf("addresses %v and %v", t.source, t.destination)
	}
	return t, nil
}

func eachAttribute(raw []byte, each func(netlink.Attribute) error) error {
	attributes, err := netlink.ParseAttributes(raw)
	if err != nil {
		return err
	}
	for _, a := range attributes {
		if err := each(a); err != nil {
			return err
		}
	}
	return nil
}

func (t *tuple) setAddress(a netlink.Attribute) error {
	address, ok := netip.AddrFromSlice(a.Value)
	switch a.Type {
	case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
		t.source = address
	case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
		t.destination = address
	default:
		return nil
	}
	if !ok {
		return fmt.Errorf("address of %d bytes", len(a.Value))
	}
	return nil
}

func (t *tuple) setProtocol(a netlink.Attribute) error {
	switch a.Type {
	case nl.CTA_PROTO_NUM:
		t.protocol = state.Protocol(a.Uint8())
	case nl.CTA_PROTO_SRC_PORT:
		t.sourcePort = a.Port()
	case nl.CTA_PROTO_DST_PORT:
		t.destinationPort = a.Port()
	}
	return nil
}
