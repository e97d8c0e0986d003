// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// walk is the flows that one dump serves: those of one family and protocol.
type walk struct {
	family   state.Family
	protocol state.Protocol
	port     uint16 // of the Service in all of them; 0 if they differ
	flows    map[state.Flow]bool
}

// String names what is walked: "UDP over IPv4".
func (w walk) String() string { return fmt.Sprintf("%v over %v", w.protocol, w.family) }

// walks sorts flows into as few walks as the kernel's filter allows: it wants to
// be told one family, and can be told one protocol.
func walks(flows []state.Flow) []walk {
	type kind struct {
		family   state.Family
		protocol state.Protocol
	}
	found := map[kind]walk{}
	for _, f := range flows {
		k := kind{state.FamilyOf(f.Service.Addr()), f.Protocol}
		w, ok := found[k]
		if !ok {
			w = walk{family: k.family, protocol: k.protocol, port: f.Service.Port(), flows: map[state.Flow]bool{}}
		}
		if w.port != f.Service.Port() {
			w.port = 0
		}
		w.flows[f] = true
		found[k] = w
	}
	return slices.SortedFunc(maps.Values(found), func(a, b walk) int {
		return int(a.family)<<8 + int(a.protocol) - int(b.family)<<8 - int(b.protocol)
	})
}

// holds says whether an entry's flow is one of those to be flushed.
func (w walk) holds(f state.Flow) bool {
	if w.flows[f] {
		return true
	}
	f.Endpoint = netip.AddrPort{}
	return w.flows[f]
}
