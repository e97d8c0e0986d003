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

// Verdicts of netfilter.
const (
	nfDrop   = 0
	nfAccept = 1
	nfQueue  = 3
)

// loaded is what a register holds: some bytes of a packet or of what is known about it.
type loaded struct {
	what string // "iifname", "saddr"
	len  int
	mask []byte // of the bits that count; nil: all
}

// speller writes one rule in the spelling of iptables-save. What has no word there stands in brackets.
type speller struct {
	family    state.Family
	registers map[uint32]loaded
	matches   []string
	target    string
	never     bool // it is for the other family
}

func spell(f state.Family, r rule) string {
	s := speller{family: f, registers: map[uint32]loaded{}}
	list, err := netlink.ParseAttributes(r.expressions)
	for _, e := range list {
		inside, bad := e.Nested()
		content, worse := inside.Get(unix.NFTA_EXPR_DATA).Nested()
		if bad != nil || worse != nil {
			s.unknown("unreadable")
			continue
		}
		s.expression(inside.Get(unix.NFTA_EXPR_NAME).String(), content)
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

// load stores what in the register that an attribute names.
func (s *speller) load(e netlink.Attributes, register uint16, what loaded) {
	s.registers[e.Get(register).BigUint32()] = what
}

func (s *speller) loaded(e netlink.Attributes, register uint16) loaded {
	return s.registers[e.Get(register).BigUint32()]
}

func (s *speller) expression(name string, e netlink.Attributes) {
	switch name {
	case "counter", "log":
	case "meta":
		s.meta(e)
	case "payload":
		s.payload(e)
	case "ct":
		s.connection(e)
	case "bitwise":
		s.bitwise(e)
	case "cmp":
		s.compare(s.loaded(e, unix.NFTA_CMP_SREG), e.Get(unix.NFTA_CMP_OP).BigUint32(), value(e, unix.NFTA_CMP_DATA))
	case "immediate":
		s.immediate(e)
	case "lookup":
		if e.Has(unix.NFTA_LOOKUP_DREG) && e.Get(unix.NFTA_LOOKUP_DREG).BigUint32() == unix.NFT_REG_VERDICT {
			s.target = "-j VERDICT-MAP"
		} else {
			s.unknown("lookup")
		}
	case "nat":
		s.target = targets()["redir"]
		if e.Has(unix.NFTA_NAT_TYPE) && e.Get(unix.NFTA_NAT_TYPE).BigUint32() == unix.NFT_NAT_SNAT {
			s.target = "-j SNAT --to-source nftables"
		}
	case "match":
		if m := e.Get(unix.NFTA_MATCH_NAME).String(); m != "comment" {
			s.unknown("-m " + m)
		}
	case "target":
		s.target = extension(e.Get(unix.NFTA_TARGET_NAME).String())
	default:
		if target, is := targets()[name]; is {
			s.target = target
		} else {
			s.unknown(name)
		}
	}
}

// targets are the expressions that are targets in iptables.
func targets() map[string]string {
	return map[string]string{
		"redir":    "-j DNAT --to-destination nftables",
		"tproxy":   "-j TPROXY",
		"fwd":      "-j FWD",
		"synproxy": "-j SYNPROXY",
		"reject":   "-j REJECT --reject-with nftables",
		"masq":     "-j MASQUERADE",
		"queue":    "-j NFQUEUE",
		"notrack":  "-j NOTRACK",
	}
}

// extension spells a target of iptables that iptables-nft has put into nftables. What it has to say is in a form of the
// target's own, which is not read.
func extension(name string) string {
	switch name {
	case "REJECT":
		return targets()["reject"]
	case "MASQUERADE":
		return targets()["masq"]
	case "SNAT":
		return "-j SNAT --to-source nftables"
	case "DNAT", "REDIRECT", "NETMAP":
		return targets()["redir"]
	}
	if state.Aside(name) {
		return "-j " + name
	}
	return "-j XT-TARGET"
}

func (s *speller) meta(e netlink.Attributes) {
	key := e.Get(unix.NFTA_META_KEY).BigUint32()
	if e.Has(unix.NFTA_META_SREG) {
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
	s.load(e, unix.NFTA_META_DREG, loaded{what: what, len: 4})
}

func (s *speller) connection(e netlink.Attributes) {
	if e.Has(unix.NFTA_CT_SREG) {
		return // what is stored with the connection stops no packet here
	}
	key := e.Get(unix.NFTA_CT_KEY).BigUint32()
	what := fmt.Sprintf("ct %d", key)
	if key == unix.NFT_CT_STATE {
		what = "state"
	}
	s.load(e, unix.NFTA_CT_DREG, loaded{what: what, len: 4})
}

func (s *speller) payload(e netlink.Attributes) {
	if e.Has(unix.NFTA_PAYLOAD_SREG) {
		s.unknown("payload set")
		return
	}
	what := s.field(e.Get(unix.NFTA_PAYLOAD_BASE).BigUint32(), e.Get(unix.NFTA_PAYLOAD_OFFSET).BigUint32())
	s.load(e, unix.NFTA_PAYLOAD_DREG, loaded{what: what, len: int(e.Get(unix.NFTA_PAYLOAD_LEN).BigUint32())})
}

// field names a part of a packet by where it begins.
func (s *speller) field(base, offset uint32) string {
	const network, transport = 1, 2
	at := map[uint32]string{}
	switch {
	case base == transport:
		at = map[uint32]string{0: "sport", 2: "dport"}
	case base == network && s.family == state.IPv6:
		at = map[uint32]string{8: "saddr", 24: "daddr", 6: "l4proto"}
	case base == network:
		at = map[uint32]string{12: "saddr", 16: "daddr", 9: "l4proto"}
	}
	if what := at[offset]; what != "" {
		return what
	}
	return fmt.Sprintf("payload %d %d", base, offset)
}

func (s *speller) bitwise(e netlink.Attributes) {
	from := s.loaded(e, unix.NFTA_BITWISE_SREG)
	mask, flips := value(e, unix.NFTA_BITWISE_MASK), value(e, unix.NFTA_BITWISE_XOR)
	if from.mask != nil || len(mask) == 0 || strings.Trim(string(flips), "\x00") != "" {
		from.what = "bits of " + from.what
	}
	from.mask = mask
	s.load(e, unix.NFTA_BITWISE_DREG, from)
}

// value returns the bytes in an attribute, if it has no verdict.
func value(e netlink.Attributes, kind uint16) []byte {
	inside, _ := e.Get(kind).Nested()
	return inside.Get(unix.NFTA_DATA_VALUE).Value
}

func (s *speller) immediate(e netlink.Attributes) {
	inside, _ := e.Get(unix.NFTA_IMMEDIATE_DATA).Nested()
	if !inside.Has(unix.NFTA_DATA_VERDICT) {
		s.load(e, unix.NFTA_IMMEDIATE_DREG, loaded{what: "a value"})
		return
	}
	verdict, _ := inside.Get(unix.NFTA_DATA_VERDICT).Nested()
	chain := verdict.Get(unix.NFTA_VERDICT_CHAIN).String()
	target, is := map[int32]string{
		nfDrop: "-j DROP", nfAccept: "-j ACCEPT", nfQueue: "-j NFQUEUE",
		unix.NFT_JUMP: "-j " + chain, unix.NFT_GOTO: "-g " + chain, unix.NFT_RETURN: "-j RETURN",
	}[int32(verdict.Get(unix.NFTA_VERDICT_CODE).BigUint32())]
	if is {
		s.target = target
	}
}

func (s *speller) compare(r loaded, op uint32, with []byte) {
	not, text := "", ""
	if op == unix.NFT_CMP_NEQ {
		not = "! "
	}
	if op == unix.NFT_CMP_EQ || op == unix.NFT_CMP_NEQ {
		text = s.equal(r, not, with)
	}
	if text == "" {
		s.unknown(fmt.Sprintf("%s op %d %x", r.what, op, with))
	} else if text != always {
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
		if len(with) == 4 && binary.NativeEndian.Uint32(with) == 1 { // the index of lo is 1 everywhere
			return not + "-" + r.what[:1] + " lo"
		}
	case "nfproto":
		s.never = s.never || len(with) == 1 && (with[0] == netlink.FamilyNumber(s.family)) == (not != "")
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
		return markOf(r, not, with)
	case "state":
		return states(r, not, with)
	}
	return ""
}

// network writes an address with a prefix, of which with may be the first bytes only.
func (s *speller) network(r loaded, not string, with []byte) string {
	whole := make([]byte, s.family.Bits()/8)
	if copy(whole, with) != len(with) || r.len != len(with) {
		return ""
	}
	length := 8 * len(with)
	if r.mask != nil {
		length = 0
		for _, b := range r.mask {
			length += bits.OnesCount8(b)
		}
	}
	a, _ := netip.AddrFromSlice(whole)
	return not + "-" + r.what[:1] + " " + netip.PrefixFrom(a, length).String()
}

func markOf(r loaded, not string, with []byte) string {
	if len(with) != 4 {
		return ""
	}
	mask := ^uint32(0)
	if len(r.mask) == 4 {
		mask = binary.NativeEndian.Uint32(r.mask)
	}
	return fmt.Sprintf("-m mark %s--mark %#x/%#x", not, binary.NativeEndian.Uint32(with), mask)
}

// states writes connection states: all bits are compared, or those of a mask with 0.
func states(r loaded, not string, with []byte) string {
	if len(with) != 4 || len(r.mask) != 4 && r.mask != nil {
		return ""
	}
	set, none := binary.NativeEndian.Uint32(with), r.mask != nil
	if none && set != 0 {
		return ""
	}
	if none {
		set = binary.NativeEndian.Uint32(r.mask)
	}
	var names []string
	for bit, name := range []string{0: "INVALID", 1: "ESTABLISHED", 2: "RELATED", 3: "NEW", 6: "UNTRACKED"} {
		if name != "" && set&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	negated := ""
	if (not == "") == none { // equal to none of them
		negated = "! "
	}
	return "-m conntrack " + negated + "--ctstate " + strings.Join(names, ",")
}
