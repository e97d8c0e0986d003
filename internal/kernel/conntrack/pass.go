// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// pass is the flows that one dump serves.
type pass struct {
	kind
	port  uint16 // of the Service in all of them; 0 if they differ
	flows map[state.Flow]bool
}

type kind struct {
	family     state.Family
	protocol   state.Protocol
	unanswered bool // only entries without an answer
}

// String names what is dumped: "UDP over IPv4".
func (p pass) String() string { return fmt.Sprintf("%v over %v", p.protocol, p.family) }

// passes groups flows into as few passes as the kernel's filter allows: one family and one protocol each.
func passes(flows []state.Flow) []pass {
	found := map[kind]pass{}
	for _, f := range flows {
		k := kind{state.FamilyOf(f.Service.Addr()), f.Protocol, connects(f.Protocol) && f.Untranslated()}
		p, ok := found[k]
		if !ok {
			p = pass{kind: k, port: f.Service.Port(), flows: map[state.Flow]bool{}}
		}
		if p.port != f.Service.Port() {
			p.port = 0
		}
		p.flows[f] = true
		found[k] = p
	}
	return slices.SortedFunc(maps.Values(found), func(a, b pass) int { return a.rank() - b.rank() })
}

func (k kind) rank() int {
	rank := int(k.family)<<9 + int(k.protocol)<<1
	if k.unanswered {
		rank++
	}
	return rank
}

// connects reports whether a protocol has connections that both sides agree on. Such a one that went untranslated and
// has an answer is with another host that has the address, and not ours to end.
func connects(p state.Protocol) bool { return p == state.TCP || p == state.SCTP }

func (p pass) matches(e entry) bool {
	if p.unanswered && e.answered {
		return false
	}
	untranslated := e.flow
	untranslated.Endpoint = netip.AddrPort{}
	return p.flows[e.flow] || p.flows[untranslated]
}
