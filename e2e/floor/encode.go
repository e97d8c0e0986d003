// SPDX-License-Identifier: Apache-2.0

package floor

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The numbers of linux/netfilter/ipset/ip_set.h and linux/ip_vs.h that the package needs.
const (
	setCreate, setAdd  = 6<<8 | 2, 6<<8 | 9 // NFNL_SUBSYS_IPSET
	setProtocol        = 7
	bigEndian          = unix.NLA_F_NET_BYTEORDER
	newServer, newReal = 1, 5
	setConfig          = 12
)

// revisions are those of the kernels since 3.19.
func revision(t state.SetType) uint8 {
	switch t {
	case state.HashIP:
		return 4
	case state.HashIPPortNet:
		return 7
	case state.BitmapPort:
		return 3
	}
	return 5
}

func encodeSets(sets []diff.Row[state.SetName, state.Set], entries []diff.Row[state.SetEntry, state.Entry]) *netlink.Requests {
	b := &netlink.Requests{}
	for _, s := range sets {
		beginSet(b, setCreate, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.Key)
		b.String(3, string(s.Value.Type))
		b.Uint8(4, revision(s.Value.Type))
		b.Uint8(5, netlink.FamilyNumber(s.Value.Family))
		b.Nest(7, func() {
			if s.Value.Type == state.BitmapPort {
				b.Port(4|bigEndian, 0)
				b.Port(5|bigEndian, 65535)
			} else {
				b.BigUint32(18|bigEndian, 1024)
				b.BigUint32(19|bigEndian, s.Value.MaxElem)
			}
			bits := uint32(1 << 4) // with comments
			if s.Value.Marks {
				bits |= 1 << 6
			}
			b.BigUint32(8|bigEndian, bits)
		})
	}
	for _, e := range entries {
		beginSet(b, setAdd, unix.NLM_F_EXCL, e.Key.Set)
		b.Nest(7, func() {
			putEntry(b, e.Key)
			b.String(26, e.Value.Comment)
		})
	}
	return b
}

// beginSet begins a request about a set.
func beginSet(b *netlink.Requests, command, flags uint16, set state.SetName) {
	b.Begin(command, flags)
	b.Raw(unix.AF_INET, 0, 0, 0)
	b.Uint8(1, setProtocol)
	b.String(2, string(set))
}

func putEntry(b *netlink.Requests, e state.SetEntry) {
	putSetAddress(b, 1, e.Address)
	if e.Protocol != 0 {
		b.Port(4|bigEndian, e.Port)
		b.Uint8(7, uint8(e.Protocol))
	}
	if e.Source.IsValid() {
		putSetAddress(b, 20, e.Source.Addr())
	}
}

func putSetAddress(b *netlink.Requests, kind uint16, a netip.Addr) {
	b.Nest(kind, func() {
		if a.Is4() {
			b.Bytes(1|bigEndian, a.AsSlice())
		} else {
			b.Bytes(2|bigEndian, a.AsSlice())
		}
	})
}

// encodeTimeout is for the one timeout that is set.
func encodeTimeout(family uint16, seconds string) (*netlink.Requests, error) {
	b := &netlink.Requests{}
	b.Begin(family, 0)
	b.Raw(setConfig, 1, 0, 0)
	n, err := strconv.ParseUint(seconds, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("parse timeout: %w", err)
	}
	b.Uint32(4, uint32(n))
	return b, nil
}

func encodeServers(
	family uint16, virtual []diff.Row[state.VirtualServerKey, state.VirtualServer], real []diff.Row[state.RealServerKey, state.RealServer],
) *netlink.Requests {
	b := &netlink.Requests{}
	begin := func(command uint8) {
		b.Begin(family, 0)
		b.Raw(command, 1, 0, 0)
	}
	for _, r := range virtual {
		begin(newServer)
		b.Nest(1, func() {
			putServer(b, r.Key)
			b.String(6, r.Value.Scheduler)
			b.Bytes(7, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(r.Value.Flags)), ^uint32(0)))
			b.Uint32(8, r.Value.Timeout)
			if r.Key.Family() == state.IPv6 {
				b.Uint32(9, 128)
			} else {
				b.Uint32(9, ^uint32(0))
			}
		})
	}
	for _, r := range real {
		begin(newReal)
		b.Nest(1, func() { putServer(b, r.Key.Server) })
		b.Nest(2, func() {
			b.Uint16(11, uint16(netlink.FamilyNumber(r.Key.Server.Family())))
			b.Bytes(1, r.Key.Address.Addr().AsSlice())
			b.Port(2, r.Key.Address.Port())
			b.Uint32(3, moby.ConnectionFlagMasq)
			b.Uint32(4, r.Value.Weight)
			b.Uint32(5, 0)
			b.Uint32(6, 0)
		})
	}
	return b
}

// putServer names a virtual server.
func putServer(b *netlink.Requests, k state.VirtualServerKey) {
	b.Uint16(1, uint16(netlink.FamilyNumber(k.Family())))
	b.Uint16(2, uint16(k.Protocol))
	b.Bytes(3, k.Address.Addr().AsSlice())
	b.Port(4, k.Address.Port())
}

// device is the number that encodeAddresses gives to the device, so that the addresses can be encoded before there is
// one.
const device = 1000

// encodeAddresses makes the device too, and the address that it needs beside the Service addresses if these are routed.
func encodeAddresses(addresses []diff.Row[state.Address, state.Binding]) *netlink.Requests {
	b := &netlink.Requests{}
	b.Begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], device)
	b.Raw(header...)
	b.String(unix.IFLA_IFNAME, string(state.DummyLink))
	b.Nest(unix.IFLA_LINKINFO, func() { b.String(unix.IFLA_INFO_KIND, "dummy") })
	routed := func(a diff.Row[state.Address, state.Binding]) bool { return a.Value.Means == state.Routed }
	if slices.ContainsFunc(addresses, routed) {
		assign(b, state.Anchor(), unix.RT_SCOPE_HOST)
	}
	for _, a := range addresses {
		if routed(a) {
			route(b, a.Key.Addr, a.Value, unix.NLM_F_EXCL, state.RouteMetric)
			continue
		}
		assign(b, a.Key.Addr, unix.RT_SCOPE_UNIVERSE)
		if a.Value.MTU > 0 { // stands in a route before the one that the kernel makes
			route(b, a.Key.Addr, a.Value, 0, 0)
		}
	}
	return b
}

func assign(b *netlink.Requests, a netip.Addr, scope byte) {
	b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.Raw(binary.NativeEndian.AppendUint32([]byte{
		netlink.FamilyNumber(state.FamilyOf(a)), byte(a.BitLen()), 0, scope,
	}, device)...)
	b.Bytes(unix.IFA_LOCAL, a.AsSlice())
	b.Bytes(unix.IFA_ADDRESS, a.AsSlice())
}

func route(b *netlink.Requests, to netip.Addr, v state.Binding, flags uint16, metric uint32) {
	b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|flags)
	b.Raw(netlink.FamilyNumber(state.FamilyOf(to)), byte(to.BitLen()), 0, 0,
		unix.RT_TABLE_LOCAL, state.RouteProtocol, unix.RT_SCOPE_HOST, unix.RTN_LOCAL, 0, 0, 0, 0)
	b.Bytes(unix.RTA_DST, to.AsSlice())
	b.Uint32(unix.RTA_OIF, device)
	b.Uint32(unix.RTA_PRIORITY, metric)
	if v.Source.IsValid() {
		b.Bytes(unix.RTA_PREFSRC, v.Source.AsSlice())
	}
	if v.MTU > 0 {
		b.Nest(unix.RTA_METRICS, func() { b.Uint32(unix.RTAX_MTU, v.MTU) })
	}
}
