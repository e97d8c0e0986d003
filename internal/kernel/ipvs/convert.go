// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The kernel's names for these are in linux/ip_vs.h; moby/ipvs does not export its copies.
const (
	familyName    = "IPVS"
	familyVersion = 1

	commandNewService = 1 // SET and DEL follow
	commandGetService = 4
	commandNewDest    = 5 // SET and DEL follow
	commandGetDest    = 8
	commandSetConfig  = 12
	commandGetConfig  = 13
	commandGetInfo    = 15

	attrService       = 1
	attrDest          = 2
	attrTimeoutTCP    = 4
	attrTimeoutTCPFin = 5
	attrTimeoutUDP    = 6

	serviceFamily    = 1
	serviceProtocol  = 2
	serviceAddress   = 3
	servicePort      = 4
	serviceMark      = 5
	serviceScheduler = 6
	serviceFlags     = 7
	serviceTimeout   = 8
	serviceNetmask   = 9
	serviceEngine    = 11
	serviceStats64   = 12

	destAddress    = 1
	destPort       = 2
	destMethod     = 3
	destWeight     = 4
	destUpper      = 5
	destLower      = 6
	destActive     = 7
	destInactive   = 8
	destPersistent = 9
	destFamily     = 11
	destStats64    = 12

	// flagHashed is set by the kernel in each virtual server. It refuses a new one that has it.
	flagHashed state.ServerFlags = 0x02
)

// seenVirtualServer is a virtual server as the kernel shows it.
type seenVirtualServer struct {
	server   state.VirtualServer
	counters state.Counters
}

// seenRealServer is a real server as the kernel shows it.
type seenRealServer struct {
	server      state.RealServer
	connections state.Connections
	counters    state.Counters
}

func begin(b *netlink.Requests, family uint16, command uint8) {
	b.Begin(family, 0)
	b.Raw(command, familyVersion, 0, 0)
}

func encodeVirtualServer(b *netlink.Requests, family uint16, r virtualServerRow) {
	begin(b, family, commandNewService+uint8(r.verb))
	b.Nest(attrService, func() {
		putVirtualServerKey(b, r.key)
		if r.verb != remove {
			putVirtualServer(b, r.key.Family(), r.value)
		}
	})
}

func encodeRealServer(b *netlink.Requests, family uint16, r realServerRow) {
	begin(b, family, commandNewDest+uint8(r.verb))
	b.Nest(attrService, func() { putVirtualServerKey(b, r.key.Server) })
	b.Nest(attrDest, func() {
		b.Uint16(destFamily, uint16(netlink.FamilyNumber(state.FamilyOf(r.key.Address.Addr()))))
		putAddress(b, destAddress, r.key.Address.Addr())
		b.Port(destPort, r.key.Address.Port())
		if r.verb != remove {
			b.Uint32(destMethod, uint32(r.value.Method)&moby.ConnFwdMask)
			b.Uint32(destWeight, r.value.Weight)
			b.Uint32(destUpper, r.value.Upper)
			b.Uint32(destLower, r.value.Lower)
		}
	})
}

// encodeGet asks for the virtual server k, or with commandGetDest for its real servers.
func encodeGet(b *netlink.Requests, family uint16, command uint8, k state.VirtualServerKey) {
	begin(b, family, command)
	b.Nest(attrService, func() { putVirtualServerKey(b, k) })
}

func putVirtualServerKey(b *netlink.Requests, k state.VirtualServerKey) {
	b.Uint16(serviceFamily, uint16(netlink.FamilyNumber(k.Family())))
	if k.Mark != 0 {
		b.Uint32(serviceMark, k.Mark)
		return
	}
	b.Uint16(serviceProtocol, uint16(k.Protocol))
	putAddress(b, serviceAddress, k.Address.Addr())
	b.Port(servicePort, k.Address.Port())
}

func putVirtualServer(b *netlink.Requests, f state.Family, v state.VirtualServer) {
	b.String(serviceScheduler, v.Scheduler)
	if v.Engine != "" {
		b.String(serviceEngine, v.Engine)
	}
	var flags [8]byte // the flags, and the mask of those that are meant
	binary.NativeEndian.PutUint32(flags[:], uint32(v.Flags&^flagHashed))
	binary.NativeEndian.PutUint32(flags[4:], ^uint32(flagHashed))
	b.Bytes(serviceFlags, flags[:])
	b.Uint32(serviceTimeout, v.Timeout)
	if f == state.IPv6 {
		b.Uint32(serviceNetmask, uint32(v.Prefix))
	} else {
		b.BigUint32(serviceNetmask, ^uint32(0)<<(32-int(min(v.Prefix, 32))))
	}
}

func putAddress(b *netlink.Requests, kind uint16, a netip.Addr) {
	raw := a.As16()
	if a.Is4() {
		b.Bytes(kind, raw[12:])
	} else {
		b.Bytes(kind, raw[:])
	}
}

// fields are the attributes of one virtual or real server by their type, in an array because there are many of them.
// Attributes of newer kernels that do not fit are ignored.
type fields [16]netlink.Attribute

func (f *fields) has(kind uint16) bool { return f[kind].Value != nil }

// nestedFields returns the fields in the attribute kind of a message of our family.
func nestedFields(body []byte, kind uint16) (*fields, error) {
	if len(body) < unix.GENL_HDRLEN {
		return nil, fmt.Errorf("message of %d bytes", len(body))
	}
	var inside []byte
	err := netlink.EachAttribute(body[unix.GENL_HDRLEN:], func(a netlink.Attribute) {
		if a.Type == kind {
			inside = a.Value
		}
	})
	if err != nil {
		return nil, err
	}
	if inside == nil {
		return nil, fmt.Errorf("message without attribute %d", kind)
	}
	return fieldsOf(inside)
}

func fieldsOf(data []byte) (*fields, error) {
	f := &fields{}
	return f, netlink.EachAttribute(data, func(a netlink.Attribute) {
		if int(a.Type) < len(f) {
			f[a.Type] = a
		}
	})
}

// decodeVirtualServer reads the answer to GET_SERVICE.
func decodeVirtualServer(body []byte) (state.VirtualServerKey, seenVirtualServer, error) {
	f, err := nestedFields(body, attrService)
	if err != nil {
		return state.VirtualServerKey{}, seenVirtualServer{}, err
	}
	k, err := f.virtualServerKey()
	if err != nil {
		return k, seenVirtualServer{}, err
	}
	v, err := f.virtualServer(k.Family())
	return k, v, err
}

func (f *fields) virtualServerKey() (state.VirtualServerKey, error) {
	family, err := f.family(serviceFamily)
	if err != nil {
		return state.VirtualServerKey{}, err
	}
	if mark := f[serviceMark].Uint32(); mark != 0 {
		return state.MarkKey(family, mark), nil
	}
	protocol := f[serviceProtocol].Uint16()
	if protocol > 255 || !f.has(serviceProtocol) || !f.has(servicePort) {
		return state.VirtualServerKey{}, fmt.Errorf("no mark, and no protocol and port (protocol %d)", protocol)
	}
	a, err := f.address(serviceAddress, family)
	if err != nil {
		return state.VirtualServerKey{}, err
	}
	return state.VirtualServerKey{
		Address:  netip.AddrPortFrom(a, f[servicePort].Port()),
		Protocol: state.Protocol(protocol),
	}, nil
}

func (f *fields) virtualServer(family state.Family) (seenVirtualServer, error) {
	if !f.has(serviceFlags) || !f.has(serviceTimeout) || !f.has(serviceNetmask) || !f.has(serviceScheduler) {
		return seenVirtualServer{}, errors.New("no flags, timeout, netmask or scheduler")
	}
	prefix, err := f.prefix(family)
	if err != nil {
		return seenVirtualServer{}, err
	}
	counters, err := f.counters(serviceStats64)
	return seenVirtualServer{
		server: state.VirtualServer{
			Scheduler: f[serviceScheduler].String(),
			Flags:     state.ServerFlags(f[serviceFlags].Uint32()) &^ flagHashed, // the mask behind it is ignored
			Timeout:   f[serviceTimeout].Uint32(),
			Prefix:    prefix,
			Engine:    f[serviceEngine].String(),
		},
		counters: counters,
	}, err
}

// prefix reads the persistence netmask. An IPv4 mask with holes, which only other programs make, has no prefix; its
// leading bits are never 32, so it is never taken for one of ours.
func (f *fields) prefix(family state.Family) (uint8, error) {
	if family == state.IPv4 {
		return uint8(bits.LeadingZeros32(^f[serviceNetmask].BigUint32())), nil
	}
	n := f[serviceNetmask].Uint32()
	if n > 128 {
		return 0, fmt.Errorf("IPv6 netmask of %d bits", n)
	}
	return uint8(n), nil
}

// decodeRealServer reads an answer to GET_DEST of the virtual server k.
func decodeRealServer(body []byte, k state.VirtualServerKey) (state.RealServerKey, seenRealServer, error) {
	f, err := nestedFields(body, attrDest)
	if err != nil {
		return state.RealServerKey{}, seenRealServer{}, err
	}
	a, err := f.realServerAddress()
	if err != nil {
		return state.RealServerKey{}, seenRealServer{}, err
	}
	counters, err := f.counters(destStats64)
	seen := seenRealServer{
		server: state.RealServer{
			Weight: f[destWeight].Uint32(),
			Method: state.ForwardMethod(f[destMethod].Uint32() & moby.ConnFwdMask),
			Upper:  f[destUpper].Uint32(),
			Lower:  f[destLower].Uint32(),
		},
		connections: state.Connections{
			Active:     connections(int32(f[destActive].Uint32())),
			Inactive:   connections(int32(f[destInactive].Uint32())),
			Persistent: connections(int32(f[destPersistent].Uint32())),
		},
		counters: counters,
	}
	return state.RealServerKey{Server: k, Address: a}, seen, err
}

func (f *fields) realServerAddress() (netip.AddrPort, error) {
	if !f.has(destPort) || !f.has(destMethod) || !f.has(destWeight) {
		return netip.AddrPort{}, errors.New("no port, method or weight")
	}
	family, err := f.family(destFamily)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := f.address(destAddress, family)
	return netip.AddrPortFrom(a, f[destPort].Port()), err
}

func (f *fields) family(kind uint16) (state.Family, error) {
	n := f[kind].Uint16()
	family := netlink.FamilyOf(n)
	if family == 0 {
		return 0, fmt.Errorf("address family %d", n)
	}
	return family, nil
}

// address reads an address, for which the kernel sends 16 bytes in either family.
func (f *fields) address(kind uint16, family state.Family) (netip.Addr, error) {
	value := f[kind].Value
	size := family.Bits() / 8
	if len(value) < size {
		return netip.Addr{}, fmt.Errorf("%v address of %d bytes", family, len(value))
	}
	a, _ := netip.AddrFromSlice(value[:size])
	return a, nil
}

// counters reads 64-bit statistics, which every kernel since 4.1 sends.
func (f *fields) counters(kind uint16) (state.Counters, error) {
	stats, err := fieldsOf(f[kind].Value)
	if err != nil {
		return state.Counters{}, fmt.Errorf("counters: %w", err)
	}
	return state.Counters{
		Connections:    stats[1].Uint64(),
		PacketsIn:      stats[2].Uint64(),
		PacketsOut:     stats[3].Uint64(),
		BytesIn:        stats[4].Uint64(),
		BytesOut:       stats[5].Uint64(),
		ConnectionRate: stats[6].Uint64(),
		PacketRateIn:   stats[7].Uint64(),
		PacketRateOut:  stats[8].Uint64(),
		ByteRateIn:     stats[9].Uint64(),
		ByteRateOut:    stats[10].Uint64(),
	}, nil
}
