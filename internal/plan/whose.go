// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// place is what becomes of an address that a Service has.
type place struct {
	bind bool // the node takes packets to it for itself

	// refused is why nothing may be served there; empty: it may.
	refused string
	// others: it is refused since somebody else is there.
	others bool
}

// place says whose the address of f is. Whose a cluster IP is, the API server has decided; but who may write
// a Service may write any other address into it, and a node says itself which addresses it has: neither may
// take what is the other's.
func (v vicinity) place(f *frontend) place {
	a := f.server.Address.Addr()
	if p, in := networkOf(v.config.ExcludeCIDRs, a); in {
		return place{refused: "is in the excluded network " + p.String()}
	}
	own := slices.Contains(v.node.Addresses, a)
	if !f.outside {
		return place{bind: !own}
	}
	if whose := v.node.Others[a]; whose != "" {
		return place{refused: "is the address of " + whose, others: true}
	}
	if own {
		return place{}
	}
	if why := v.somebodys(a, f.rank); why != "" {
		return place{refused: why, others: true}
	}
	return place{bind: true}
}

// somebodys says why an address that the node does not have is no Service's. The address of a load balancer
// comes from who runs it, so that an endpoint which somebody only wrote down does not take it away.
func (v vicinity) somebodys(a netip.Addr, rank state.Rank) string {
	for _, p := range v.node.Networks {
		switch {
		case !p.Contains(a):
		case a == p.Masked().Addr():
			return "is the network " + p.String() + " of this node itself"
		case a == broadcast(p):
			return "is the broadcast address of this node's network " + p.String()
		}
	}
	for _, pods := range [][]netip.Prefix{v.config.PodCIDRs, v.config.LocalDetector.CIDRs, v.node.PodCIDRs} {
		if p, in := networkOf(pods, a); in {
			return "is in the pod network " + p.String()
		}
	}
	if p := v.present[a]; p == Located || p == Endpoint && rank == state.External {
		return "is the address of an endpoint"
	}
	return ""
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func networkOf(networks []netip.Prefix, a netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return networks[i], true
}
