// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ownership tells what is ours in a kernel by the names and set entries that this package makes.
type Ownership struct {
	// Exclude are networks in which nothing is ours, whatever entries say.
	Exclude []netip.Prefix
}

// Set says whether a set of that name is ours. So is one that a crash has left behind while another was being
// replaced.
func (Ownership) Set(n state.SetName) bool { return OurSet(n) || n.Temporary() }

// Proofs are the set entries any of which shows that virtual server k is ours. local says that its address is
// one of the node's own: without that, a port alone proves nothing. A virtual server with a mark of ours
// needs no proof.
func (o Ownership) Proofs(k state.VirtualServerKey, local bool) iter.Seq[state.SetEntry] {
	return func(yield func(state.SetEntry) bool) {
		if k.Mark != 0 || nodePortSet(k.Protocol) == "" || o.excluded(k.Address.Addr()) {
			return
		}
		for _, e := range serverEntries(k) {
			if (local || e.Address.IsValid()) && !yield(e) {
				return
			}
		}
	}
}

// AddressProof is the set entry which shows that address a is ours; the zero entry, which no set has, if
// nothing can.
func (o Ownership) AddressProof(a state.Address) state.SetEntry {
	if o.excluded(a.Addr) {
		return state.SetEntry{}
	}
	return addressEntry(a.Addr)
}

func (o Ownership) excluded(a netip.Addr) bool {
	return slices.ContainsFunc(o.Exclude, func(p netip.Prefix) bool { return p.Contains(a) })
}
