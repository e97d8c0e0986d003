// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// nfDrop and the others are what the kernel does with a packet.
const (
	nfDrop   = 0
	nfAccept = 1
	nfQueue  = 3
)

// loaded is what a register holds: some bytes of what is asked of the packet.
type loaded struct {
	what string // "iifname", "saddr"
	len  int
	mask []byte // of the bits that count; nil: all
}

// speller writes one rule in the spelling of iptables-save. What has no word there stands in brackets, and
// nobody who reads it takes it for a match.
type speller struct {
	family    state.Family
	registers map[uint32]loaded
	matches   []string
	target    string
	never     bool // it is for the other family
}

// spell is a rule in the spelling of iptables-save, with its handle as a comment.
func spell(f state.Family, r rule) string {
	s := speller{family: f, registers: map[uint32]loaded{}}
	list, err := netlink.ParseAttributes(r.expressions)
	for _, e := range list {
		inside, bad := e.Nested()
		name, _ := find(inside, unix.NFTA_EXPR_NAME)
		data, _ := find(inside, unix.NFTA_EXPR_DATA)
		attributes, worse := data.Nested()
		if bad != nil || worse != nil {
			s.unknown("unreadable")
			continue
		}
		s.expression(name.String(), attributes)
	}
	handle := fmt.Sprintf(`-m comment --comment "handle %d"`, r.handle)
	switch {
	case err != nil:
		return handle + " [unreadable]"
	case s.never:
		return handle // a rule without a target only counts
	}
	return strings.Join(append(append([]string{handle}, s.matches...), strings.Fields(s.target)...), " ")
}

func (s *speller) unknown(what string) { s.matches = append(s.matches, "["+what+"]") }

func (s *speller) expression(name string, list []netlink.Attribute) {
	number := func(kind uint16) uint32 {
		a, _ := find(list, kind)
		return a.BigUint32()
	}
	switch name {
	case "counter", "log":
	case "meta":
		s.meta(list, number)
	case "payload":
		if _, writes := find(list, unix.NFTA_PAYLOAD_SREG); writes {
			s.unknown("payload set")
			return
		}
		what := s.field(number(unix.NFTA_PAYLOAD_BASE), number(unix.NFTA_PAYLOAD_OFFSET))
		s.registers[number(unix.NFTA_PAYLOAD_DREG)] = loaded{what: what, len: int(number(unix.NFTA_PAYLOAD_LEN))}
	case "ct":
		what := fmt.Sprintf("ct %d", number(unix.NFTA_CT_KEY))
		if number(unix.NFTA_CT_KEY) == unix.NFT_CT_STATE {
			what = "state"
		}
		if _, writes := find(list, unix.NFTA_CT_SREG); writes {
			return // what is remembered of the connection stops nobody here
		}
		s.registers[number(unix.NFTA_CT_DREG)] = loaded{what: what, len: 4}
	case "bitwise":
		s.bitwise(list, number)
	case "cmp":
		s.compare(s.registers[number(unix.NFTA_CMP_SREG)], number(unix.NFTA_CMP_OP), value(list, unix.NFTA_CMP_DATA))
	case "immediate":
		s.immediate(list, number)
	case "lookup":
		if _, maps := find(list, unix.NFTA_LOOKUP_DREG); maps && number(unix.NFTA_LOOKUP_DREG) == unix.NFT_REG_VERDICT {
			s.target = "-j VERDICT-MAP"
			return
		}
		s.unknown("lookup")
	case "nat", "redir":
		s.target = "-j DNAT --to-destination nftables"
		if kind, there := find(list, unix.NFTA_NAT_TYPE); name == "nat" && there && kind.BigUint32() == unix.NFT_NAT_SNAT {
			s.target = "-j SNAT --to-source nftables"
		}
	case "tproxy", "fwd", "synproxy":
		s.target = "-j " + strings.ToUpper(name)
	case "target":
		s.target = "-j XT-TARGET"
	case "reject":
		s.target = "-j REJECT --reject-with nftables"
	case "masq":
		s.target = "-j MASQUERADE"
	case "queue":
		s.target = "-j NFQUEUE"
	case "notrack":
		s.target = "-j NOTRACK"
	default:
		s.unknown(name)
	}
}

func (s *speller) meta(list []netlink.Attribute, number func(uint16) uint32) {
	key := number(unix.NFTA_META_KEY)
	if _, writes := find(list, unix.NFTA_META_SREG); writes {
		s.unknown(fmt.Sprintf("meta set %d", key))
		return
	}
	what := map[uint32]string{
		unix.NFT_META_IIFNAME: "iifname", unix.NFT_META_OIFNAME: "oifname", unix.NFT_META_IIF: "iif", unix.NFT_META_OIF: "oif",
		unix.NFT_META_L4PROTO: "l4proto", unix.NFT_META_NFPROTO: "nfproto", unix.NFT_META_MARK: "mark", unix.NFT_META_PROTOCOL: "ethertype",
	}[key]
	if what == "" {
		what = fmt.Sprintf("meta %d", key)
	}
	s.registers[number(unix.NFTA_META_DREG)] = loaded{what: what, len: 4}
}

// field is what a part of a packet is, by where it begins.
func (s *speller) field(base, offset uint32) string {
	const network, transport = 1, 2
	at := map[uint32]string{12: "saddr", 16: "daddr", 9: "l4proto"}
	if s.family == state.IPv6 {
		at = map[uint32]string{8: "saddr", 24: "daddr", 6: "l4proto"}
	}
	if base == transport {
		at = map[uint32]string{0: "sport", 2: "dport"}
	}
	if what := at[offset]; what != "" && (base == network || base == transport) {
		return what
	}
	return fmt.Sprintf("payload %d %d", base, offset)
}

func (s *speller) bitwise(list []netlink.Attribute, number func(uint16) uint32) {
	from := s.registers[number(unix.NFTA_BITWISE_SREG)]
	mask, flips := value(list, unix.NFTA_BITWISE_MASK), value(list, unix.NFTA_BITWISE_XOR)
	if from.mask != nil || len(mask) == 0 || strings.Trim(string(flips), "\x00") != "" {
		from.what = "bits of " + from.what
	}
	from.mask = mask
	s.registers[number(unix.NFTA_BITWISE_DREG)] = from
}

// value is the data of an expression, if it is no verdict.
func value(list []netlink.Attribute, kind uint16) []byte {
	a, _ := find(list, kind)
	inside, _ := a.Nested()
	v, _ := find(inside, unix.NFTA_DATA_VALUE)
	return v.Value
}

func (s *speller) immediate(list []netlink.Attribute, number func(uint16) uint32) {
	a, _ := find(list, unix.NFTA_IMMEDIATE_DATA)
	inside, _ := a.Nested()
	verdict, is := find(inside, unix.NFTA_DATA_VERDICT)
	if !is {
		s.registers[number(unix.NFTA_IMMEDIATE_DREG)] = loaded{what: "a value"}
		return
	}
	words, _ := verdict.Nested()
	code, _ := find(words, unix.NFTA_VERDICT_CODE)
	to, _ := find(words, unix.NFTA_VERDICT_CHAIN)
	switch int32(code.BigUint32()) {
	case nfDrop:
		s.target = "-j DROP"
	case nfAccept:
		s.target = "-j ACCEPT"
	case nfQueue:
		s.target = "-j NFQUEUE"
	case unix.NFT_JUMP:
		s.target = "-j " + to.String()
	case unix.NFT_GOTO:
		s.target = "-g " + to.String()
	case unix.NFT_RETURN:
		s.target = "-j RETURN"
	}
}

// compare writes a comparison, if it has a word.
func (s *speller) compare(r loaded, op uint32, with []byte) {
	not := ""
	if op == unix.NFT_CMP_NEQ {
		not = "! "
	}
	text := ""
	if op == unix.NFT_CMP_EQ || op == unix.NFT_CMP_NEQ {
		text = s.equal(r, not, with)
	}
	switch {
	case text == "":
		s.unknown(fmt.Sprintf("%s op %d %x", r.what, op, with))
	case text != always:
		s.matches = append(s.matches, text)
	}
}

const always = "always"

func (s *speller) equal(r loaded, not string, with []byte) string {
	switch r.what {
	case "iifname", "oifname":
		name, whole := strings.CutSuffix(string(with), "\x00")
		name = strings.TrimRight(name, "\x00")
		if !whole && len(with) < unix.IFNAMSIZ {
			name += "+"
		}
		return not + "-" + r.what[:1] + " " + name
	case "iif", "oif":
		if len(with) == 4 && binary.NativeEndian.Uint32(with) == 1 { // that of lo, everywhere
			return not + "-" + r.what[:1] + " lo"
		}
	case "nfproto":
		s.never = s.never || len(with) == 1 && (with[0] == protocolOf(s.family)) == (not != "")
		return always
	case "ethertype":
		six := len(with) == 2 && binary.BigEndian.Uint16(with) == unix.ETH_P_IPV6
		s.never = s.never || len(with) == 2 && (six == (s.family == state.IPv6)) == (not != "")
		return always
	case "l4proto":
		if len(with) == 1 {
			return fmt.Sprintf("%s-p %d", not, with[0])
		}
	case "sport", "dport":
		if len(with) == 2 && r.len == 2 && r.mask == nil {
			return fmt.Sprintf("-m tcp %s--%s %d", not, r.what, binary.BigEndian.Uint16(with))
		}
	case "saddr", "daddr":
		return s.network(r, not, with)
	case "mark":
		return bitsOf(r, not, with)
	case "state":
		return states(r, not, with)
	}
	return ""
}

// network writes an address with a prefix, which may be some whole bytes of it.
func (s *speller) network(r loaded, not string, with []byte) string {
	whole := make([]byte, 4)
	if s.family == state.IPv6 {
		whole = make([]byte, 16)
	}
	if copy(whole, with) != len(with) || r.len != len(with) {
		return ""
	}
	length := 8 * len(with)
	if r.mask != nil {
		ones := 0
		for _, b := range r.mask {
			ones += bits.OnesCount8(b)
		}
		length = ones
	}
	a, _ := netip.AddrFromSlice(whole)
	return not + "-" + r.what[:1] + " " + netip.PrefixFrom(a, length).String()
}

func bitsOf(r loaded, not string, with []byte) string {
	if len(with) != 4 {
		return ""
	}
	mask := ^uint32(0)
	if len(r.mask) == 4 {
		mask = binary.NativeEndian.Uint32(r.mask)
	}
	return fmt.Sprintf("-m mark %s--mark %#x/%#x", not, binary.NativeEndian.Uint32(with), mask)
}

// states writes "ct state new,established": some bits, of which not none is set.
func states(r loaded, not string, with []byte) string {
	if len(with) != 4 || len(r.mask) != 4 && r.mask != nil {
		return ""
	}
	set, none := binary.NativeEndian.Uint32(with), false
	if r.mask != nil {
		none = set == 0
		set = binary.NativeEndian.Uint32(r.mask)
		if !none {
			return ""
		}
	}
	var names []string
	for bit, name := range map[uint32]string{1: "INVALID", 2: "ESTABLISHED", 4: "RELATED", 8: "NEW", 64: "UNTRACKED"} {
		if set&bit != 0 {
			names = append(names, name)
		}
	}
	if (not == "") == none { // equal to none of them
		not = "! "
	} else {
		not = ""
	}
	return "-m conntrack " + not + "--ctstate " + strings.Join(names, ",")
}
