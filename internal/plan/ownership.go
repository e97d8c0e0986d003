// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ownership tells what is ours in a kernel by the names and set entries that
// this package makes. The zero value is ready for use.
type Ownership struct{}

// Set says whether a set of that name is ours. So is one that a crash has left
// behind while another was being replaced.
func (Ownership) Set(n state.SetName) bool { return OurSet(n) || n.Temporary() }

// Proofs are the set entries any of which shows that virtual server k is ours.
// local says that its address is one of the node's own: without that, a port
// alone proves nothing.
func (Ownership) Proofs(k state.VirtualServerKey, local bool) []state.SetEntry {
	proofs := ServerEntries(k)
	if local {
		return proofs
	}
	return slices.DeleteFunc(proofs, func(e state.SetEntry) bool { return !e.Address.IsValid() })
}

// AddressProof is the set entry which shows that address a is ours.
func (Ownership) AddressProof(a state.Address) state.SetEntry { return addressEntry(a.Addr) }
