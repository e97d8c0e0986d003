// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
)

// register is the number of a register of four bytes, from 0. A value begins there and takes as many as it needs.
type register uint32

// number is what the kernel calls it: one that begins a register of 16 bytes has that one's name.
func (r register) number() uint32 {
	if r%4 == 0 {
		return unix.NFT_REG_1 + uint32(r/4)
	}
	return unix.NFT_REG32_00 + uint32(r)
}

// expressions appends the expressions of one rule to a request. Each method is one instruction of the kernel's. What
// the kernel would add by itself is said here too, so that a dump shows the same.
type expressions struct{ b *netlink.Requests }

func (x expressions) one(name string, inside func()) {
	x.b.Nest(unix.NFTA_LIST_ELEM, func() {
		x.b.String(unix.NFTA_EXPR_NAME, name)
		x.b.Nest(unix.NFTA_EXPR_DATA, inside)
	})
}

// value appends bytes as an attribute of the kernel's own form for data.
func (x expressions) value(kind uint16, value []byte) {
	x.b.Nest(kind, func() { x.b.Bytes(unix.NFTA_DATA_VALUE, value) })
}

// The bases of payload, and the places in the headers.
const (
	networkHeader   = unix.NFT_PAYLOAD_NETWORK_HEADER
	transportHeader = unix.NFT_PAYLOAD_TRANSPORT_HEADER
	portOffset      = 2 // of the destination port, for every protocol of Services
)

func (x expressions) payload(base, offset, length uint32, to register) {
	x.one("payload", func() {
		x.b.BigUint32(unix.NFTA_PAYLOAD_DREG, to.number())
		x.b.BigUint32(unix.NFTA_PAYLOAD_BASE, base)
		x.b.BigUint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		x.b.BigUint32(unix.NFTA_PAYLOAD_LEN, length)
	})
}

func (x expressions) meta(key uint32, to register) {
	x.one("meta", func() {
		x.b.BigUint32(unix.NFTA_META_DREG, to.number())
		x.b.BigUint32(unix.NFTA_META_KEY, key)
	})
}

func (x expressions) setMeta(key uint32, from register) {
	x.one("meta", func() {
		x.b.BigUint32(unix.NFTA_META_KEY, key)
		x.b.BigUint32(unix.NFTA_META_SREG, from.number())
	})
}

func (x expressions) compare(from register, not bool, with []byte) {
	op := uint32(unix.NFT_CMP_EQ)
	if not {
		op = unix.NFT_CMP_NEQ
	}
	x.one("cmp", func() {
		x.b.BigUint32(unix.NFTA_CMP_SREG, from.number())
		x.b.BigUint32(unix.NFTA_CMP_OP, op)
		x.value(unix.NFTA_CMP_DATA, with)
	})
}

// mask clears the bits of a register that are not in mask, and then flips those in flips.
func (x expressions) mask(at register, mask, flips []byte) {
	x.one("bitwise", func() {
		x.b.BigUint32(unix.NFTA_BITWISE_SREG, at.number())
		x.b.BigUint32(unix.NFTA_BITWISE_DREG, at.number())
		x.b.BigUint32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		x.value(unix.NFTA_BITWISE_MASK, mask)
		x.value(unix.NFTA_BITWISE_XOR, flips)
	})
}

func (x expressions) connection(key uint32, to register) {
	x.one("ct", func() {
		x.b.BigUint32(unix.NFTA_CT_DREG, to.number())
		x.b.BigUint32(unix.NFTA_CT_KEY, key)
	})
}

func (x expressions) addressType(which uint32, to register) {
	x.one("fib", func() {
		x.b.BigUint32(unix.NFTA_FIB_DREG, to.number())
		x.b.BigUint32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		x.b.BigUint32(unix.NFTA_FIB_FLAGS, which)
	})
}

// lookup goes on with the rule if what begins at a register is in a set or, if not is set, if it is not.
func (x expressions) lookup(set string, from register, not bool) {
	flags := uint32(0)
	if not {
		flags = unix.NFT_LOOKUP_F_INV
	}
	x.one("lookup", func() {
		x.b.String(unix.NFTA_LOOKUP_SET, set)
		x.b.BigUint32(unix.NFTA_LOOKUP_SREG, from.number())
		x.b.BigUint32(unix.NFTA_LOOKUP_FLAGS, flags)
	})
}

// translate loads what a map has for a key; without an entry the rule ends.
func (x expressions) translate(set string, from, to register) {
	x.one("lookup", func() {
		x.b.String(unix.NFTA_LOOKUP_SET, set)
		x.b.BigUint32(unix.NFTA_LOOKUP_SREG, from.number())
		x.b.BigUint32(unix.NFTA_LOOKUP_DREG, to.number())
		x.b.BigUint32(unix.NFTA_LOOKUP_FLAGS, 0)
	})
}

func (x expressions) load(value []byte, to register) {
	x.one("immediate", func() {
		x.b.BigUint32(unix.NFTA_IMMEDIATE_DREG, to.number())
		x.value(unix.NFTA_IMMEDIATE_DATA, value)
	})
}

// Verdicts of netfilter; those of nftables are negative.
const (
	nfDrop   = 0
	nfAccept = 1
)

func (x expressions) verdict(code int32, chain string) {
	x.one("immediate", func() {
		x.b.BigUint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		x.b.Nest(unix.NFTA_IMMEDIATE_DATA, func() {
			x.b.Nest(unix.NFTA_DATA_VERDICT, func() {
				x.b.BigUint32(unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					x.b.String(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	})
}

func (x expressions) reject(code uint8) {
	x.one("reject", func() {
		x.b.BigUint32(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_ICMP_UNREACH)
		x.b.Uint8(unix.NFTA_REJECT_ICMP_CODE, code)
	})
}

// The flags of a range of NAT (linux/netfilter/nf_nat.h).
const (
	natAddress = 1 << 0 // NF_NAT_RANGE_MAP_IPS
	natPort    = 1 << 1 // NF_NAT_RANGE_PROTO_SPECIFIED
	natRandom  = 1 << 4 // NF_NAT_RANGE_PROTO_RANDOM_FULLY
)

func (x expressions) natToAddress(family uint8, at register) {
	x.destinationNAT(family, natAddress, unix.NFTA_NAT_REG_ADDR_MIN, unix.NFTA_NAT_REG_ADDR_MAX, at)
}

func (x expressions) natToPort(family uint8, at register) {
	x.destinationNAT(family, natPort, unix.NFTA_NAT_REG_PROTO_MIN, unix.NFTA_NAT_REG_PROTO_MAX, at)
}

func (x expressions) destinationNAT(family uint8, flags uint32, low, high uint16, at register) {
	x.one("nat", func() {
		x.b.BigUint32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		x.b.BigUint32(unix.NFTA_NAT_FAMILY, uint32(family))
		x.b.BigUint32(low, at.number())
		x.b.BigUint32(high, at.number())
		x.b.BigUint32(unix.NFTA_NAT_FLAGS, flags)
	})
}

// masquerade takes random ports: any, or those between the values of two registers.
func (x expressions) masquerade(ranged bool, low, high register) {
	flags := uint32(natRandom)
	if ranged {
		flags |= natPort
	}
	x.one("masq", func() {
		x.b.BigUint32(unix.NFTA_MASQ_FLAGS, flags)
		if ranged {
			x.b.BigUint32(unix.NFTA_MASQ_REG_PROTO_MIN, low.number())
			x.b.BigUint32(unix.NFTA_MASQ_REG_PROTO_MAX, high.number())
		}
	})
}

// canonical writes a list of expressions so that two that do the same are equal, whether they were encoded here or come
// from the kernel: attributes in the order of their numbers, without those that say what is so anyway.
func canonical(list []byte) string {
	all, err := netlink.ParseAttributes(list)
	var out strings.Builder
	for _, e := range all {
		inside, bad := e.Nested()
		content, worse := inside.Get(unix.NFTA_EXPR_DATA).Nested()
		if err != nil || bad != nil || worse != nil {
			return "unreadable"
		}
		name := inside.Get(unix.NFTA_EXPR_NAME).String()
		fmt.Fprintf(&out, "%s%s\n", name, attributes(name, content))
	}
	return out.String()
}

func attributes(name string, list netlink.Attributes) string {
	slices.SortFunc(list, func(a, b netlink.Attribute) int { return int(a.Type) - int(b.Type) })
	var out strings.Builder
	for _, a := range list {
		if impliedBy(name, a) {
			continue
		}
		fmt.Fprintf(&out, " %d=%s", a.Type, valueOf(name, a))
	}
	return out.String()
}

// impliedBy reports whether an attribute says what holds without it. Kernels since 5.5 name the operation of a bitwise
// expression, of which those here are the first.
func impliedBy(name string, a netlink.Attribute) bool {
	const bitwiseOperation = 6
	return name == "bitwise" && a.Type == bitwiseOperation && a.BigUint32() == 0
}

// valueOf writes an attribute of an expression. Data is nested: a value or a verdict.
func valueOf(name string, a netlink.Attribute) string {
	nested := name == "cmp" && a.Type == unix.NFTA_CMP_DATA ||
		name == "immediate" && a.Type == unix.NFTA_IMMEDIATE_DATA ||
		name == "bitwise" && (a.Type == unix.NFTA_BITWISE_MASK || a.Type == unix.NFTA_BITWISE_XOR)
	if nested {
		inside, _ := a.Nested()
		if verdict := inside.Get(unix.NFTA_DATA_VERDICT); verdict.Value != nil {
			code, _ := verdict.Nested()
			return fmt.Sprintf("%d %s", int32(code.Get(unix.NFTA_VERDICT_CODE).BigUint32()), code.Get(unix.NFTA_VERDICT_CHAIN))
		}
		return fmt.Sprintf("%x", inside.Get(unix.NFTA_DATA_VALUE).Value)
	}
	if name == "lookup" && a.Type == unix.NFTA_LOOKUP_SET {
		return a.String()
	}
	return fmt.Sprintf("%x", a.Value)
}
