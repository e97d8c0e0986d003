// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// encoder turns the rules of one chain into expressions.
type encoder struct {
	expressions
	family  state.Family
	table   state.RuleTable // without the firewall
	headers map[state.SetName]state.Set
}

// encoderOf returns the encoder of a chain's rules.
func encoderOf(id chainID, headers map[state.SetName]state.Set) encoder {
	t, _, _ := parseChainName(id.name)
	return encoder{family: id.family, table: t.Bare(), headers: headers}
}

// rule appends the expressions of a rule, or returns why nftables can't do it.
func (x encoder) rule(r rule.Rule) error {
	ends, to := x.ending(r)
	for i, m := range r.Matches {
		if i == ends {
			continue
		}
		if err := x.match(m); err != nil {
			return err
		}
	}
	return x.verdictOf(r.Verdict, to)
}

// ending returns the match that is the verdict's own: where packets are led to stands in the map that the rule matches.
func (x encoder) ending(r rule.Rule) (at int, to rule.Member) {
	switch r.Verdict.(type) {
	case rule.ShiftPort, rule.Join:
		for i, m := range r.Matches {
			if member, is := m.(rule.Member); is && x.headers[member.Set].Type.IsMap() {
				return i, member
			}
		}
	}
	return -1, rule.Member{}
}

func (x encoder) match(m rule.Match) error {
	switch m := m.(type) {
	case rule.About:
	case rule.In:
		x.network(m)
	case rule.Via:
		x.interfaceName(m)
	case rule.Proto:
		x.protocol(uint8(m))
	case rule.Port:
		x.payload(transportHeader, portOffset, 2, 0)
		x.compare(0, false, binary.BigEndian.AppendUint16(nil, uint16(m)))
	case rule.Member:
		return x.member(m)
	case rule.Local:
		which := uint32(unix.NFTA_FIB_F_DADDR)
		if rule.Side(m) == rule.Source {
			which = unix.NFTA_FIB_F_SADDR
		}
		x.addressType(which, 0)
		x.compare(0, false, native(unix.RTN_LOCAL))
	case rule.Tracked:
		x.tracked(m)
	case rule.Marked:
		x.meta(unix.NFT_META_MARK, 0)
		x.mask(0, native(m.Mask), native(0))
		x.compare(0, m.Not, native(m.Value))
	case rule.EchoRequest:
		x.echoRequest()
	default:
		return fmt.Errorf("nftables has no match for %T", m)
	}
	return nil
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// The offsets of addresses in the header of the network.
func (x encoder) offset(side rule.Side) uint32 {
	switch {
	case x.family == state.IPv4 && side == rule.Source:
		return 12
	case x.family == state.IPv4:
		return 16
	case side == rule.Source:
		return 8
	}
	return 24
}

func (x encoder) address(side rule.Side, to register) register {
	length := addressPart(x.family).length
	x.payload(networkHeader, x.offset(side), length, to)
	return to + register(length/4)
}

func (x encoder) network(m rule.In) {
	x.address(m.Side, 0)
	a := m.Network.Masked().Addr().AsSlice()
	if !m.Network.IsSingleIP() {
		x.mask(0, maskOf(m.Network), make([]byte, len(a)))
	}
	x.compare(0, m.Not, a)
}

func maskOf(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

func (x encoder) interfaceName(m rule.Via) {
	x.meta(unix.NFT_META_IIFNAME, 0)
	name := []byte(m.Interface)
	if !m.Begins {
		name = append(name, make([]byte, max(0, unix.IFNAMSIZ-len(name)))...)
	}
	x.compare(0, m.Not, name)
}

func (x encoder) protocol(number uint8) {
	x.meta(unix.NFT_META_L4PROTO, 0)
	x.compare(0, false, []byte{number})
}

func (x encoder) echoRequest() {
	protocol, kind := uint8(unix.IPPROTO_ICMP), byte(8)
	if x.family == state.IPv6 {
		protocol, kind = unix.IPPROTO_ICMPV6, 128
	}
	x.protocol(protocol)
	x.payload(transportHeader, 0, 1, 0)
	x.compare(0, false, []byte{kind})
}

// What conntrack knows of a connection, as bits of nft's ct state and ct status.
const (
	ctEstablished = 1 << 1
	ctRelated     = 1 << 2
	ctNew         = 1 << 3
	ctDNAT        = 1 << 5
)

func (x encoder) tracked(m rule.Tracked) {
	key, bits := uint32(unix.NFT_CT_STATE), uint32(ctNew)
	switch m {
	case rule.Established:
		bits = ctEstablished | ctRelated
	case rule.Translated:
		key, bits = unix.NFT_CT_STATUS, ctDNAT
	}
	x.connection(key, 0)
	x.mask(0, native(bits), native(0))
	x.compare(0, true, native(0))
}

// found is where a match puts what a map has. The key of a map takes no more than those before it.
const found register = 8

// member matches a packet's parts in a set. In a map, what is found is compared with nothing: a map can't be looked
// into for membership alone, and nft prints no value that is not used.
func (x encoder) member(m rule.Member) error {
	header, there := x.headers[m.Set]
	if !there {
		return fmt.Errorf("there is no set %s (%w)", m.Set.Bare(), fs.ErrNotExist)
	}
	if err := x.loadKey(m, header.Type); err != nil {
		return err
	}
	if !header.Type.IsMap() {
		x.lookup(string(m.Set.Bare()), 0, m.Not)
		return nil
	}
	if m.Not {
		return fmt.Errorf("nftables can't ask whether something is not in map %s", m.Set.Bare())
	}
	s, _ := shapeOf(x.family, header.Type)
	x.translate(string(m.Set.Bare()), 0, found)
	x.compare(found, true, make([]byte, s.data.length))
	return nil
}

// loadKey loads the key of a set from register 0 on.
func (x encoder) loadKey(m rule.Member, t state.SetType) error {
	ports := t == state.BitmapPort
	sides := map[rule.Parts][]rule.Side{
		rule.To: {rule.Destination}, rule.From: {rule.Source},
		rule.ToPort: {rule.Destination}, rule.FromPort: {rule.Source},
		rule.ToPortFrom: {rule.Destination, rule.Source},
	}[m.Of]
	withPort := m.Of == rule.ToPort || m.Of == rule.FromPort || m.Of == rule.ToPortFrom
	s, known := shapeOf(x.family, t)
	want := len(sides)
	if withPort {
		want += 2
	}
	if !known || ports != (m.Of == rule.To && s.parts[0].kind == typePort) || !ports && len(s.parts) != want {
		return fmt.Errorf("set %s of type %s does not hold what the rule looks for", m.Set.Bare(), t)
	}
	if ports {
		x.payload(transportHeader, portOffset, 2, 0)
		return nil
	}
	next := x.address(sides[0], 0)
	if withPort {
		x.meta(unix.NFT_META_L4PROTO, next)
		x.payload(transportHeader, portOffset, 2, next+1)
		next += 2
	}
	if len(sides) > 1 {
		x.address(sides[1], next)
	}
	return nil
}

func (x encoder) verdictOf(v rule.Verdict, to rule.Member) error {
	number := netlink.FamilyNumber(x.family)
	switch v := v.(type) {
	case nil:
	case rule.Do:
		x.plain(v)
	case rule.Jump:
		x.verdict(unix.NFT_JUMP, chainName(x.table, string(v)))
	case rule.Mark:
		x.meta(unix.NFT_META_MARK, 0)
		x.mask(0, native(^v.Mask), native(v.Value))
		x.setMeta(unix.NFT_META_MARK, 0)
	case rule.Masquerade:
		ranged := v.Last > 0
		if ranged {
			x.load(binary.BigEndian.AppendUint16(nil, v.First), 0)
			x.load(binary.BigEndian.AppendUint16(nil, v.Last), 4)
		}
		x.masquerade(ranged, 0, 4)
	case rule.Redirect:
		x.load(netip.Addr(v).AsSlice(), 0)
		x.natToAddress(number, 0)
	case rule.ShiftPort:
		return x.translated(to, func() { x.natToPort(number, found) })
	case rule.Join:
		return x.translated(to, func() { x.natToAddress(number, found) })
	default:
		return fmt.Errorf("nftables has no verdict for %T", v)
	}
	return nil
}

// translated looks up where a packet goes to, and sends it there.
func (x encoder) translated(m rule.Member, send func()) error {
	if m.Set == "" {
		return fmt.Errorf("the rule matches no map that says where packets go")
	}
	if err := x.loadKey(m, x.headers[m.Set].Type); err != nil {
		return err
	}
	x.translate(string(m.Set.Bare()), 0, found)
	send()
	return nil
}

// plain appends a verdict. To accept a packet in nat means that no other program's rules translate it. Those follow in
// chains of their own, which a verdict of ours does not keep from asking. So the connection gets its destination, the
// one that it has: the kernel chooses one but once (nf_nat_inet_fn).
func (x encoder) plain(v rule.Do) {
	switch v {
	case rule.Accept:
		if x.table == state.NAT {
			x.address(rule.Destination, 0)
			x.natToAddress(netlink.FamilyNumber(x.family), 0)
			return
		}
		x.verdict(nfAccept, "")
	case rule.Return:
		x.verdict(unix.NFT_RETURN, "")
	case rule.Drop:
		x.verdict(nfDrop, "")
	case rule.Refuse:
		code := uint8(3) // port unreachable
		if x.family == state.IPv6 {
			code = 4
		}
		x.reject(code)
	}
}

// chainName is the name of a chain in our table.
func chainName(t state.RuleTable, name string) string { return t.NFTChain(name) }

// parseChainName takes a chain's name apart.
func parseChainName(s string) (t state.RuleTable, name string, ok bool) {
	table, name, ok := strings.Cut(s, "-")
	t = state.RuleTable(table)
	return t.On(state.OnNFTables), name, ok && name != "" && (t == state.NAT || t == state.Filter || t == state.Mangle)
}
