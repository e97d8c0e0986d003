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
	silent   bool   // of their entries only those that nobody answered
	flows    map[state.Flow]bool
}

// String names what is walked: "UDP over IPv4".
func (w walk) String() string { return fmt.Sprintf("%v over %v", w.protocol, w.family) }

// walks sorts flows into as few walks as the kernel's filter allows: it wants to be told one family, and can
// be told one protocol.
func walks(flows []state.Flow) []walk {
	type kind struct {
		family   state.Family
		protocol state.Protocol
		silent   bool
	}
	found := map[kind]walk{}
	for _, f := range flows {
		k := kind{state.FamilyOf(f.Service.Addr()), f.Protocol, shakesHands(f.Protocol) && f.Untranslated()}
		w, ok := found[k]
		if !ok {
			w = walk{family: k.family, protocol: k.protocol, silent: k.silent, port: f.Service.Port(), flows: map[state.Flow]bool{}}
		}
		if w.port != f.Service.Port() {
			w.port = 0
		}
		w.flows[f] = true
		found[k] = w
	}
	return slices.SortedFunc(maps.Values(found), func(a, b walk) int { return a.rank() - b.rank() })
}

func (w walk) rank() int {
	rank := int(w.family)<<9 + int(w.protocol)<<1
	if w.silent {
		rank++
	}
	return rank
}

// shakesHands says whether a protocol has connections that both sides agree on. What was sent untranslated
// and answered is one of these, with somebody who has the address elsewhere: it is not for us to end. A first
// packet that nobody answered is none yet.
func shakesHands(p state.Protocol) bool { return p == state.TCP || p == state.SCTP }

// holds says whether an entry is one of those to be flushed.
func (w walk) holds(e entry) bool {
	f := e.flow
	if w.silent && e.answered {
		return false
	}
	if w.flows[f] {
		return true
	}
	f.Endpoint = netip.AddrPort{}
	return w.flows[f]
}
