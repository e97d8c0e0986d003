// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const subsystem = unix.NFNL_SUBSYS_CTNETLINK << 8

// Names of the kernel's nfnetlink_conntrack.h and its ctnetlink that no library has.
const (
	attributeFilter     = 25 // CTA_FILTER
	filterOriginalFlags = 1  // CTA_FILTER_ORIG_FLAGS
	filterByProtocol    = 1 << 3
	filterByServicePort = 1 << 5
	attributeStatusMask = 26     // CTA_STATUS_MASK
	answered            = 1 << 1 // IPS_SEEN_REPLY
	genericSize         = 4      // struct nfgenmsg
)

// addDump appends the request for the entries of p, filtered as far as the kernel does it (5.8 and later; an older one
// sends the whole family). It does not filter by address: the kernel's comparison of IPv6 addresses was the wrong way
// round when this was written, and dropped exactly the entries that match.
func (p pass) addDump(b *netlink.Requests) {
	b.Begin(subsystem|nl.IPCTNL_MSG_CT_GET, 0)
	b.Raw(generic(p.family)...)
	flags := uint32(filterByProtocol)
	if p.port != 0 {
		flags |= filterByServicePort
	}
	b.Nest(attributeFilter, func() { b.Uint32(filterOriginalFlags, flags) })
	b.Nest(nl.CTA_TUPLE_ORIG, func() {
		b.Nest(nl.CTA_TUPLE_PROTO, func() {
			b.Uint8(nl.CTA_PROTO_NUM, uint8(p.protocol))
			b.Port(nl.CTA_PROTO_DST_PORT, p.port)
		})
	})
	if p.unanswered { // filtered from 5.17 on
		b.BigUint32(nl.CTA_STATUS, 0)
		b.BigUint32(attributeStatusMask, answered)
	}
}

func generic(f state.Family) []byte {
	return []byte{netlink.FamilyNumber(f), unix.NFNETLINK_V0, 0, 0}
}

// entry is one tracked connection, with the parts of its message by which the kernel identifies it.
type entry struct {
	flow     state.Flow
	original []byte // CTA_TUPLE_ORIG
	zone     []byte // CTA_ZONE; nil: the default zone
	id       []byte // CTA_ID
	answered bool
}

// parseEntry reads the body of an IPCTNL_MSG_CT_NEW message. The ports of a protocol without ports are 0.
func parseEntry(body []byte) (entry, error) {
	attributes, err := netlink.ParseBody(body, genericSize)
	if err != nil {
		return entry{}, fmt.Errorf("conntrack: %w", err)
	}
	e := entry{
		original: attributes.Get(nl.CTA_TUPLE_ORIG).Value,
		zone:     attributes.Get(nl.CTA_ZONE).Value,
		id:       attributes.Get(nl.CTA_ID).Value,
		answered: attributes.Get(nl.CTA_STATUS).BigUint32()&answered != 0,
	}
	there, err := parseTuple(e.original)
	if err != nil {
		return entry{}, fmt.Errorf("conntrack message, original direction: %w", err)
	}
	back, err := parseTuple(attributes.Get(nl.CTA_TUPLE_REPLY).Value)
	if err != nil {
		return entry{}, fmt.Errorf("conntrack message, reply direction: %w", err)
	}
	e.flow = state.Flow{Protocol: there.protocol, Service: there.to, Endpoint: back.from}
	return e, nil
}

// addDelete appends the request to delete e. The kernel compares the id, so a newer connection with the same addresses
// and ports stays. (A request without a tuple would delete everything.)
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

type tuple struct {
	from, to netip.AddrPort
	protocol state.Protocol
}

func parseTuple(raw []byte) (tuple, error) {
	parts, err := netlink.ParseAttributes(raw)
	if err != nil {
		return tuple{}, err
	}
	addresses, err := parts.Get(nl.CTA_TUPLE_IP).Nested()
	if err != nil {
		return tuple{}, err
	}
	ports, err := parts.Get(nl.CTA_TUPLE_PROTO).Nested()
	if err != nil {
		return tuple{}, err
	}
	source := addressIn(addresses, nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC)
	destination := addressIn(addresses, nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST)
	if !source.IsValid() || !destination.IsValid() || source.Is4() != destination.Is4() {
		return tuple{}, fmt.Errorf("addresses %v and %v", source, destination)
	}
	return tuple{
		from:     netip.AddrPortFrom(source, ports.Get(nl.CTA_PROTO_SRC_PORT).Port()),
		to:       netip.AddrPortFrom(destination, ports.Get(nl.CTA_PROTO_DST_PORT).Port()),
		protocol: state.Protocol(ports.Get(nl.CTA_PROTO_NUM).Uint8()),
	}, nil
}

func addressIn(list netlink.Attributes, v4, v6 uint16) netip.Addr {
	if !list.Has(v4) {
		v4 = v6
	}
	address, _ := netip.AddrFromSlice(list.Get(v4).Value)
	return address
}
