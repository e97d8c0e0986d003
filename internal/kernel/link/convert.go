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

// Assigned is one address of one device, as rtnetlink shows it.
type Assigned struct {
	Index  int          // of the device
	Prefix netip.Prefix // the address, not masked, and the length of its network
}

// ParseAssigned reads the body of an RTM_NEWADDR or RTM_DELADDR message.
//
// IFA_ADDRESS is the peer's address on a point-to-point device, where IFA_LOCAL is ours; IPv6 without a peer has no
// IFA_LOCAL.
func ParseAssigned(body []byte) (Assigned, error) {
	attributes, err := netlink.ParseBody(body, unix.SizeofIfAddrmsg)
	if err != nil {
		return Assigned{}, fmt.Errorf("address: %w", err)
	}
	kind := uint16(unix.IFA_LOCAL)
	if !attributes.Has(kind) {
		kind = unix.IFA_ADDRESS
	}
	raw := attributes.Get(kind).Value
	address, ok := netip.AddrFromSlice(raw)
	if !ok {
		return Assigned{}, fmt.Errorf("address message with an address of %d bytes", len(raw))
	}
	prefix := netip.PrefixFrom(address, int(body[1]))
	if !prefix.IsValid() {
		return Assigned{}, fmt.Errorf("address message with %v/%d", address, body[1])
	}
	return Assigned{Index: int(binary.NativeEndian.Uint32(body[4:])), Prefix: prefix}, nil
}

// bound reports whether an address of our device can be a Service's. The kernel makes link-local ones itself.
func bound(p netip.Prefix) bool {
	linkLocal := p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	return p.IsSingleIP() && !linkLocal && p.Addr() != state.Anchor()
}

// addDump appends the request for the addresses of both families that a device has; of device 0, for those of all. An
// old kernel sends all either way.
func addDump(b *netlink.Requests, device int) {
	b.Begin(unix.RTM_GETADDR, 0)
	b.Raw(header(unix.AF_UNSPEC, 0, 0, device)...)
}

func addAddress(b *netlink.Requests, device int, a netip.Addr, flags int, scope byte) {
	h := header(netlink.FamilyNumber(state.FamilyOf(a)), a.BitLen(), flags, device)
	h[3] = scope
	b.Raw(h...)
	b.Bytes(unix.IFA_LOCAL, a.AsSlice())
	b.Bytes(unix.IFA_ADDRESS, a.AsSlice())
}

// header is a struct ifaddrmsg of global scope.
func header(family uint8, bits, flags, device int) []byte {
	h := []byte{family, byte(bits), byte(flags), unix.RT_SCOPE_UNIVERSE}
	return binary.NativeEndian.AppendUint32(h, uint32(device))
}
