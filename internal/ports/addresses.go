// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Listening returns where a node with these addresses answers health checks, if NodePorts are served in networks. A
// family without a network, or with one of all addresses, is answered on 0.0.0.0 or ::. Otherwise only addresses in the
// networks count, here also loopback ones.
func Listening(networks []netip.Prefix, addresses []netip.Addr) []netip.Addr {
	var list []netip.Addr
	candidates := append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, addresses...)
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		if everywhere(networks, f) {
			list = append(list, f.Unspecified())
			continue
		}
		for _, a := range candidates {
			inside := func(p netip.Prefix) bool { return p.Contains(a) }
			if state.FamilyOf(a) == f && slices.ContainsFunc(networks, inside) {
				list = append(list, a)
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func everywhere(networks []netip.Prefix, f state.Family) bool {
	sameFamily := func(p netip.Prefix) bool { return state.FamilyOf(p.Addr()) == f }
	all := func(p netip.Prefix) bool { return sameFamily(p) && p.Bits() == 0 }
	return !slices.ContainsFunc(networks, sameFamily) || slices.ContainsFunc(networks, all)
}
