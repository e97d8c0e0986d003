// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The header of a List. New fields may appear. Existing ones change only with another version.
const (
	ListVersion = "kube-ipvs/v1"
	ListKind    = "VirtualServerList"
)

// List is a View for programs, as JSON or YAML. Fields that do not apply are absent; lists are never null.
type List struct {
	APIVersion string       `json:"apiVersion"` // ListVersion
	Kind       string       `json:"kind"`       // ListKind
	Items      []ListServer `json:"items"`      // in the order of ipvsadm -Ln
}

// ListServer is one virtual server. It has a protocol, an address and a port, or a mark.
type ListServer struct {
	Service        string     `json:"service,omitempty"` // namespace/name:port; absent if not ours, or if not known
	Set            string     `json:"set,omitempty"`     // the one that proves it ours; nft:NAME in nftables
	Family         string     `json:"family"`            // IPv4 or IPv6
	Protocol       string     `json:"protocol,omitempty"`
	Address        string     `json:"address,omitempty"`
	Port           uint16     `json:"port,omitempty"`
	Mark           uint32     `json:"mark,omitempty"`
	Bound          *bool      `json:"bound,omitempty"`   // address is on kube-ipvs0 or routed to it; absent if unknown, and of node ports
	Binding        string     `json:"binding,omitempty"` // routed, doubled; absent if assigned, as most are
	Source         string     `json:"source,omitempty"`  // of the node's own packets to a routed address
	MTU            uint32     `json:"mtu,omitempty"`     // of the node's own packets to the address
	Scheduler      string     `json:"scheduler"`
	Flags          []string   `json:"flags"` // persistent, ops, and the scheduler's, as ipvsadm calls them
	TimeoutSeconds uint32     `json:"timeoutSeconds,omitempty"`
	ClientPrefix   uint8      `json:"clientPrefix,omitempty"` // with persistent: how many bits of its address identify a client
	Engine         string     `json:"engine,omitempty"`
	Counters       *ListSum   `json:"counters,omitempty"` // with --stats
	Rates          *ListSum   `json:"rates,omitempty"`    // with --rate; per second
	RealServers    []ListReal `json:"realServers"`        // by address
}

// ListReal is one real server.
type ListReal struct {
	Address               string   `json:"address"`
	Port                  uint16   `json:"port"`
	Forward               string   `json:"forward"` // Masq, Local, Tunnel, Route, Bypass
	Weight                uint32   `json:"weight"`
	Draining              bool     `json:"draining"` // weight is 0
	UpperThreshold        uint32   `json:"upperThreshold,omitempty"`
	LowerThreshold        uint32   `json:"lowerThreshold,omitempty"`
	ActiveConnections     uint32   `json:"activeConnections"`
	InactiveConnections   uint32   `json:"inactiveConnections"`
	PersistentConnections uint32   `json:"persistentConnections,omitempty"`
	Counters              *ListSum `json:"counters,omitempty"`
	Rates                 *ListSum `json:"rates,omitempty"`
}

// ListSum is the kernel's counters, or its rates per second.
type ListSum struct {
	Connections uint64 `json:"connections"`
	PacketsIn   uint64 `json:"packetsIn"`
	PacketsOut  uint64 `json:"packetsOut"`
	BytesIn     uint64 `json:"bytesIn"`
	BytesOut    uint64 `json:"bytesOut"`
}

// JSON writes the List of v, indented.
func JSON(w io.Writer, v View, c Columns) error { return WriteJSON(w, ListOf(v, c)) }

// YAML writes the List of v.
func YAML(w io.Writer, v View, c Columns) error { return WriteYAML(w, ListOf(v, c)) }

// ListOf returns v for programs.
func ListOf(v View, c Columns) List {
	l := List{APIVersion: ListVersion, Kind: ListKind, Items: make([]ListServer, len(v.VirtualServers))}
	for i, s := range v.VirtualServers {
		l.Items[i] = listServer(s, c)
	}
	return l
}

func listServer(s VirtualServer, c Columns) ListServer {
	item := ListServer{
		Service:        s.Owner.Service,
		Set:            string(s.Owner.Set),
		Family:         s.Key.Family().String(),
		Mark:           s.Key.Mark,
		MTU:            s.Binding.MTU,
		Scheduler:      s.Row.Scheduler,
		Flags:          listFlags(s.Row),
		TimeoutSeconds: s.Row.Timeout,
		Engine:         s.Row.Engine,
		RealServers:    make([]ListReal, len(s.RealServers)),
	}
	if s.Key.Mark == 0 {
		item.Protocol, item.Address, item.Port = s.Key.Protocol.String(), s.Key.Address.Addr().String(), s.Key.Address.Port()
	}
	if bound := s.Bound == Yes; bound || s.Bound == No {
		item.Bound = &bound
	}
	if s.Bound == Yes && s.Binding.Means != state.Assigned {
		item.Binding = s.Binding.Means.String()
	}
	if s.Binding.Source.IsValid() {
		item.Source = s.Binding.Source.String()
	}
	if s.Row.Flags&state.Persistent != 0 {
		item.ClientPrefix = s.Row.Prefix
	}
	item.Counters, item.Rates = listSums(s.Counters, c)
	for i, r := range s.RealServers {
		item.RealServers[i] = listReal(r, c)
	}
	return item
}

func listFlags(v state.VirtualServer) []string {
	flags := []string{}
	if v.Flags&state.Persistent != 0 {
		flags = append(flags, "persistent")
	}
	if v.Flags&state.OnePacket != 0 {
		flags = append(flags, "ops")
	}
	return append(flags, schedulerFlags(v)...)
}

func listReal(r RealServer, c Columns) ListReal {
	item := ListReal{
		Address:               r.Address.Addr().String(),
		Port:                  r.Address.Port(),
		Forward:               r.Row.Method.String(),
		Weight:                r.Row.Weight,
		Draining:              r.Row.Weight == 0,
		UpperThreshold:        r.Row.Upper,
		LowerThreshold:        r.Row.Lower,
		ActiveConnections:     r.Connections.Active,
		InactiveConnections:   r.Connections.Inactive,
		PersistentConnections: r.Connections.Persistent,
	}
	item.Counters, item.Rates = listSums(r.Counters, c)
	return item
}

func listSums(n state.Counters, c Columns) (counters, rates *ListSum) {
	switch c {
	case Traffic:
		return &ListSum{n.Connections, n.PacketsIn, n.PacketsOut, n.BytesIn, n.BytesOut}, nil
	case Rates:
		return nil, &ListSum{n.ConnectionRate, n.PacketRateIn, n.PacketRateOut, n.ByteRateIn, n.ByteRateOut}
	}
	return nil, nil
}

// PlanKind is the kind of a Plan; its version is ListVersion.
const PlanKind = "Plan"

// Plan is a desired State and its notes for programs, as JSON or YAML. Lists are never null.
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

// PlanSet is an ipset or, if its name begins with nft:, a set of nftables.
type PlanSet struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Family  string `json:"family,omitempty"`
	MaxElem uint32 `json:"maxElem,omitempty"`
	Comment bool   `json:"comment"`
	Marks   bool   `json:"marks"`
}

// PlanEntry is an entry of a set.
type PlanEntry struct {
	Set     string `json:"set"`
	Member  string `json:"member"` // as ipset prints it
	Comment string `json:"comment,omitempty"`
	Mark    uint32 `json:"mark,omitempty"`
}

// PlanChain is a chain of iptables or, if its table begins with nft-, of nftables.
type PlanChain struct {
	Family string   `json:"family"`
	Table  string   `json:"table"`
	Name   string   `json:"name"`
	Rules  []string `json:"rules"` // as iptables-save prints them, without -A NAME, also in nftables
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

// PlanNote is a part of an object that is not served, and why.
type PlanNote struct {
	Service string `json:"service,omitempty"` // namespace/name; absent: of no Service alone
	Reason  string `json:"reason"`
	Field   string `json:"field,omitempty"` // the path in the Service or its annotation
	Message string `json:"message"`
}

// String returns one line.
func (n PlanNote) String() string {
	return when(n.Service != "", "%s: ", n.Service) + n.Reason + when(n.Field != "", " %s", n.Field) + ": " + n.Message
}

// PlanOf returns s for programs. claims are the set entries that name the Service of a virtual server, as for Join.
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

// WriteJSON writes a document with indentation, and without escapes for HTML.
func WriteJSON(w io.Writer, document any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(document); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}

// WriteYAML writes the same document as YAML.
func WriteYAML(w io.Writer, document any) error {
	text, err := yaml.Marshal(document)
	if err != nil {
		return fmt.Errorf("writing YAML: %w", err)
	}
	_, err = w.Write(text)
	return err
}
