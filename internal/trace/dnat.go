// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// destination is where destination NAT sends packets: each of its parts stays as it is in the packet if it is
// not there.
type destination struct {
	address netip.Addr
	port    uint16

	// network is what comes in place of the first bits of the address.
	network netip.Prefix

	// Where base is not 0, ports move: first is the new one of base, and so on up to last, after which comes
	// first again.
	base, first, last uint16
}

// parseDestination reads what follows --to-destination: "192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.1",
// ":80", ":1-65535/32768". Of several addresses or ports the kernel picks one, which nobody can foretell:
// that is none.
func parseDestination(s string) (d destination, ok bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		d.address = a
		return d, true
	}
	end := strings.LastIndex(s, ":")
	if end < 0 {
		return d, false
	}
	address := strings.TrimSuffix(strings.TrimPrefix(s[:end], "["), "]")
	if a, err := netip.ParseAddr(address); err == nil {
		d.address = a
	} else if address != "" {
		return d, false
	}
	ports, base, shifts := strings.Cut(s[end+1:], "/")
	first, last, _ := strings.Cut(ports, "-")
	switch {
	case !shifts:
		ok = parseNumber(ports, &d.port)
	default:
		ok = parseNumber(base, &d.base) && parseNumber(first, &d.first) && parseNumber(last, &d.last) && d.first <= d.last
	}
	if !ok {
		return destination{}, false
	}
	return d, true
}

func parseNumber(s string, port *uint16) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	*port = uint16(n)
	return err == nil && n > 0
}

// of is where a packet to a is sent. The kernel counts ports from base on, modulo 2^16, and takes what is
// left when it divides that by how many there are (nf_nat_l4proto_unique_tuple).
func (d destination) of(a netip.AddrPort) netip.AddrPort {
	address, port := a.Addr(), a.Port()
	if d.address.IsValid() {
		address = d.address
	}
	if d.network.IsValid() && d.network.Addr().Is4() == address.Is4() {
		address = state.InNetwork(address, d.network)
	}
	switch {
	case d.base != 0:
		port = d.first + uint16(int(port-d.base)%(int(d.last)-int(d.first)+1))
	case d.port != 0 && port != 0: // a ping has none
		port = d.port
	}
	return netip.AddrPortFrom(address, port)
}
