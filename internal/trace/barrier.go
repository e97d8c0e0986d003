// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Nftables is what the name of a table of nftables begins with in a Ruleset.
const Nftables = "nftables "

// Barrier is a rule or a policy of others that stops packets to Services.
type Barrier struct {
	By     string // "filter INPUT, policy DROP"; "filter INPUT 7"
	Rule   string // as iptables-save writes it; empty for a policy
	Packet Packet // one that it stops
	Sure   bool   // nothing depends on rules that are not understood
}

// String is a sentence with the remedy.
func (b Barrier) String() string {
	verb := "stops"
	if !b.Sure {
		verb = "may stop"
	}
	at := b.By
	if b.Rule != "" {
		at += " (" + b.Rule + ")"
	}
	remedy := "let whoever made it accept Services, or accept them in a rule before it"
	if strings.HasPrefix(b.By, Nftables) {
		remedy = "an accept in another table does not undo that; let whoever made it accept Services, or accept them in a rule before it in the same table"
	}
	return fmt.Sprintf("%s %s packets to Services, such as %v: %s", at, verb, b.Packet, remedy)
}

// Barriers are what stops those of some packets that nothing of ours stops, once each. ours says which chains
// are, by name.
func Barriers(s state.State, packets []Packet, where Where, ours func(chain string) bool) []Barrier {
	var list []Barrier
	for _, p := range packets {
		v := Of(s, p, where)
		own := slices.ContainsFunc(strings.Fields(v.By), ours) || v.By == "IPVS" || v.By == "routing"
		known := slices.ContainsFunc(list, func(b Barrier) bool {
			return b.By == v.By && b.Packet.Destination.Addr().Is4() == p.Destination.Addr().Is4()
		})
		if v.Fate != Dropped && v.Fate != Refused || own || known {
			continue
		}
		b := Barrier{By: v.By, Packet: v.Packet, Sure: len(v.Doubts) == 0}
		for _, step := range v.Steps {
			if step.At == v.By {
				b.Rule = step.Rule
			}
		}
		list = append(list, b)
	}
	return list
}
