// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// PlanKind is the kind of a Plan; its version is ListVersion.
const PlanKind = "Plan"

// Plan is a wished State for programs, as JSON or YAML, and what is to be said of it. Lists are never null.
type Plan struct {
	APIVersion     string            `json:"apiVersion"` // ListVersion
	Kind           string            `json:"kind"`       // PlanKind
	Node           string            `json:"node,omitempty"`
	Sysctls        map[string]string `json:"sysctls"`
	Sets           []PlanSet         `json:"sets"`
	Entries        []PlanEntry       `json:"entries"`
	Chains         []PlanChain       `json:"chains"`
	Jumps          []PlanJump        `json:"jumps"`
	Links          []PlanLink        `json:"links"`
	VirtualServers []ListServer      `json:"virtualServers"` // as in a List
	Addresses      []string          `json:"addresses"`      // on the link, or routed to it
	Notes          []PlanNote        `json:"notes"`
}

// PlanSet is an ipset.
type PlanSet struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Family  string `json:"family,omitempty"`
	MaxElem uint32 `json:"maxElem,omitempty"`
	Comment bool   `json:"comment"`
	Marks   bool   `json:"marks"`
}

// PlanEntry is an entry of an ipset.
type PlanEntry struct {
	Set     string `json:"set"`
	Member  string `json:"member"` // as ipset prints it
	Comment string `json:"comment,omitempty"`
	Mark    uint32 `json:"mark,omitempty"`
}

// PlanChain is a chain of iptables.
type PlanChain struct {
	Family string   `json:"family"`
	Table  string   `json:"table"`
	Name   string   `json:"name"`
	Rules  []string `json:"rules"` // as iptables-save prints them, without -A NAME
}

// PlanJump is the rule in a built-in chain that leads to one of Chains.
type PlanJump struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	From   string `json:"from"`
	To     string `json:"to"`
	Rule   string `json:"rule"`
}

// PlanLink is a network device.
type PlanLink struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// PlanNote says what of the objects is not done, and why.
type PlanNote struct {
	Service string `json:"service,omitempty"` // namespace/name; absent: of no Service alone
	Reason  string `json:"reason"`
	Field   string `json:"field,omitempty"` // the path in the Service or its annotation
	Message string `json:"message"`
}

// String is one line.
func (n PlanNote) String() string {
	text := n.Reason
	if n.Service != "" {
		text = n.Service + ": " + text
	}
	if n.Field != "" {
		text += " " + n.Field
	}
	return text + ": " + n.Message
}

// PlanOf is s for programs. claims are the set entries that name the Service of a virtual server, as Join
// takes them.
func PlanOf(s state.State, claims func(state.VirtualServerKey) []state.SetEntry) Plan {
	p := Plan{
		APIVersion:     ListVersion,
		Kind:           PlanKind,
		Sysctls:        map[string]string{},
		Sets:           each(s.Sets, state.SetName.Compare, planSet),
		Entries:        each(s.Entries, state.SetEntry.Compare, planEntry),
		Chains:         each(s.Chains, state.ChainKey.Compare, planChain),
		Jumps:          each(s.Jumps, state.JumpKey.Compare, planJump),
		Links:          each(s.Links, state.LinkName.Compare, planLink),
		VirtualServers: ListOf(Join(s, Observed{}, claims), Connections).Items,
		Addresses:      each(s.Addresses, state.Address.Compare, planAddress),
		Notes:          []PlanNote{},
	}
	for k, v := range s.Sysctls {
		p.Sysctls[string(k)] = v
	}
	return p
}

func each[K comparable, V, T any](table map[K]V, compare func(a, b K) int, row func(K, V) T) []T {
	list := make([]T, 0, len(table))
	for _, k := range slices.SortedFunc(maps.Keys(table), compare) {
		list = append(list, row(k, table[k]))
	}
	return list
}

func planSet(k state.SetName, v state.Set) PlanSet {
	set := PlanSet{Name: string(k), Type: string(v.Type), MaxElem: v.MaxElem, Comment: v.Comment, Marks: v.Marks}
	if v.Family != 0 {
		set.Family = v.Family.String()
	}
	return set
}

func planEntry(k state.SetEntry, v state.Entry) PlanEntry {
	return PlanEntry{Set: string(k.Set), Member: k.Member(), Comment: v.Comment, Mark: v.Mark}
}

func planChain(k state.ChainKey, v state.Chain) PlanChain {
	return PlanChain{Family: k.Family.String(), Table: string(k.Table), Name: k.Name, Rules: append([]string{}, v.Lines()...)}
}

func planJump(k state.JumpKey, v state.Jump) PlanJump {
	return PlanJump{Family: k.Family.String(), Table: string(k.Table), From: k.From, To: k.To, Rule: v.Rule}
}

func planAddress(k state.Address, _ state.Binding) string { return k.String() }

func planLink(k state.LinkName, v state.Link) PlanLink { return PlanLink{string(k), v.Kind} }

// JSON writes p, indented.
func (p Plan) JSON(w io.Writer) error { return WriteJSON(w, p) }

// YAML writes p.
func (p Plan) YAML(w io.Writer) error { return WriteYAML(w, p) }
