// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Assigned is one address of one device, as rtnetlink tells it.
type Assigned struct {
	Index  int          // of the device
	Prefix netip.Prefix // the address, not masked, and the length of its network
}

// ParseAssigned reads the body of an RTM_NEWADDR or RTM_DELADDR message.
//
// IFA_ADDRESS is the peer's address on a point-to-point device, where IFA_LOCAL is ours; IPv6 without a peer
// has no IFA_LOCAL.
func ParseAssigned(body []byte) (Assigned, error) {
	if len(body) < unix.SizeofIfAddrmsg {
		return Assigned{}, fmt.Errorf("address message of %d bytes", len(body))
	}
	attributes, err := netlink.ParseAttributes(body[unix.SizeofIfAddrmsg:])
	if err != nil {
		return Assigned{}, fmt.Errorf("address message: %w", err)
	}
	var raw []byte
	for _, a := range attributes {
		if a.Type == unix.IFA_LOCAL || a.Type == unix.IFA_ADDRESS && raw == nil {
			raw = a.Value
		}
	}
	return newAssigned(body, raw)
}

func newAssigned(header, raw []byte) (Assigned, error) {
	address, ok := netip.AddrFromSlice(raw)
	if !ok {
		return Assigned{}, fmt.Errorf("address message with an address of %d bytes", len(raw))
	}
	prefix := netip.PrefixFrom(address, int(header[1]))
	if !prefix.IsValid() {
		return Assigned{}, fmt.Errorf("address message with %v/%d", address, header[1])
	}
	return Assigned{Index: int(binary.NativeEndian.Uint32(header[4:])), Prefix: prefix}, nil
}

// addDump appends the request for the addresses of both families that a device has; of device 0, for those of
// all. An old kernel tells all either way.
func addDump(b *netlink.Requests, device int) {
	b.Begin(unix.RTM_GETADDR, 0)
	b.Raw(header(unix.AF_UNSPEC, 0, 0, device)...)
}

// addBind appends the request to give a to the device.
//
// A dummy is NOARP, so that the kernel looks for no duplicates of an IPv6 address in either case. With
// IFA_F_NODAD the address is the source of what the node sends to it at once, but local only when a work
// queue of the kernel has come to it (addrconf_dad_work): answers in between are lost. Without, it is
// tentative until then, and no source (ipv6_get_saddr_eval). But of thousands at once a dump lacks some that
// the queue has not come to (6 to 74 of 5,000, seen on 6.1), so these are not tentative.
func addBind(b *netlink.Requests, device int, a netip.Addr, tentative bool) {
	b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	flags := 0
	if !a.Is4() && !tentative {
		flags = unix.IFA_F_NODAD
	}
	addAddress(b, device, a, flags)
}

// addUnbind appends the request to take a from the device.
func addUnbind(b *netlink.Requests, device int, a netip.Addr) {
	b.Begin(unix.RTM_DELADDR, 0)
	addAddress(b, device, a, 0)
}

// addAnchor appends the request to give state.Anchor to the device, for this host alone.
func addAnchor(b *netlink.Requests, device int) {
	b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	h := header(unix.AF_INET, state.Anchor().BitLen(), 0, device)
	h[3] = unix.RT_SCOPE_HOST
	b.Raw(h...)
	b.Bytes(unix.IFA_LOCAL, state.Anchor().AsSlice())
	b.Bytes(unix.IFA_ADDRESS, state.Anchor().AsSlice())
}

func addAddress(b *netlink.Requests, device int, a netip.Addr, flags int) {
	b.Raw(header(netlink.FamilyNumber(state.FamilyOf(a)), a.BitLen(), flags, device)...)
	b.Bytes(unix.IFA_LOCAL, a.AsSlice())
	b.Bytes(unix.IFA_ADDRESS, a.AsSlice())
}

// header is a struct ifaddrmsg; the scope stays global.
func header(family uint8, bits, flags, device int) []byte {
	h := []byte{family, byte(bits), byte(flags), unix.RT_SCOPE_UNIVERSE}
	return binary.NativeEndian.AppendUint32(h, uint32(device))
}
