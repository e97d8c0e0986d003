// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/batch"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The numbers of linux/netfilter/ipset/ip_set.h and linux/ip_vs.h that the
// floor needs.
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

func encodeSets(sets []diff.Row[state.SetName, state.Set], entries []diff.Row[state.SetEntry, state.Entry]) *batch.Requests {
	b := &batch.Requests{}
	begin := func(command, flags uint16, set state.SetName) {
		b.Begin(command, flags)
		b.Raw(unix.AF_INET, 0, 0, 0)
		b.Uint8(1, setProtocol)
		b.String(2, string(set))
	}
	for _, s := range sets {
		begin(setCreate, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.Key)
		b.String(3, string(s.Value.Type))
		b.Uint8(4, revision(s.Value.Type))
		b.Uint8(5, uint8(familyNumber(s.Value.Family)))
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
		begin(setAdd, unix.NLM_F_EXCL, e.Key.Set)
		b.Nest(7, func() {
			putSetAddress(b, 1, e.Key.Address)
			if e.Key.Protocol != 0 {
				b.Port(4|bigEndian, e.Key.Port)
				b.Uint8(7, uint8(e.Key.Protocol))
			}
			if e.Key.Source.IsValid() {
				putSetAddress(b, 20, e.Key.Source.Addr())
			}
			b.String(26, e.Value.Comment)
		})
	}
	return b
}

func putSetAddress(b *batch.Requests, kind uint16, a netip.Addr) {
	b.Nest(kind, func() {
		if a.Is4() {
			b.Bytes(1|bigEndian, a.AsSlice())
		} else {
			b.Bytes(2|bigEndian, a.AsSlice())
		}
	})
}

// encodeTimeout is for the one timeout that is wished.
func encodeTimeout(family uint16, seconds string) *batch.Requests {
	b := &batch.Requests{}
	b.Begin(family, 0)
	b.Raw(setConfig, 1, 0, 0)
	n, err := strconv.ParseUint(seconds, 10, 32)
	if err != nil {
		panic(err)
	}
	b.Uint32(4, uint32(n))
	return b
}

func encodeServers(
	family uint16, virtual []diff.Row[state.VirtualServerKey, state.VirtualServer], real []diff.Row[state.RealServerKey, state.RealServer],
) *batch.Requests {
	b := &batch.Requests{}
	begin := func(command uint8) {
		b.Begin(family, 0)
		b.Raw(command, 1, 0, 0)
	}
	for _, r := range virtual {
		begin(newServer)
		b.Nest(1, func() {
			putServerKey(b, r.Key)
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
		b.Nest(1, func() { putServerKey(b, r.Key.Server) })
		b.Nest(2, func() {
			b.Uint16(11, familyNumber(r.Key.Server.Family()))
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

func putServerKey(b *batch.Requests, k state.VirtualServerKey) {
	b.Uint16(1, familyNumber(k.Family()))
	b.Uint16(2, uint16(k.Protocol))
	b.Bytes(3, k.Address.Addr().AsSlice())
	b.Port(4, k.Address.Port())
}

// encodeAddresses makes the device too, with a number of its own, so that the addresses
// can be encoded before there is one.
func encodeAddresses(addresses []diff.Row[state.Address, state.Binding]) *batch.Requests {
	const index = 1000
	b := &batch.Requests{}
	b.Begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], index)
	b.Raw(header...)
	b.String(unix.IFLA_IFNAME, string(state.DummyLink))
	b.Nest(unix.IFLA_LINKINFO, func() { b.String(unix.IFLA_INFO_KIND, "dummy") })
	for _, a := range addresses {
		flags := byte(0)
		if a.Key.Is6() {
			flags = unix.IFA_F_NODAD
		}
		b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		b.Raw(binary.NativeEndian.AppendUint32([]byte{
			byte(familyNumber(state.FamilyOf(a.Key.Addr))), byte(a.Key.BitLen()), flags, unix.RT_SCOPE_UNIVERSE,
		}, index)...)
		b.Bytes(unix.IFA_LOCAL, a.Key.AsSlice())
		b.Bytes(unix.IFA_ADDRESS, a.Key.AsSlice())
	}
	return b
}

func familyNumber(f state.Family) uint16 {
	switch f {
	case state.IPv4:
		return unix.AF_INET
	case state.IPv6:
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}
