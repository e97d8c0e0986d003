// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The header of a List. A field may be added; none changes its meaning or goes without another version.
const (
	ListVersion = "kube-ipvs/v1"
	ListKind    = "VirtualServerList"
)

// List is a View for programs, as JSON or YAML. What does not apply to an item is absent; lists are never
// null.
type List struct {
	APIVersion string       `json:"apiVersion"` // ListVersion
	Kind       string       `json:"kind"`       // ListKind
	Items      []ListServer `json:"items"`      // in the order of ipvsadm -Ln
}

// ListServer is one virtual server. It has a protocol, an address and a port, or a mark.
type ListServer struct {
	Service        string     `json:"service,omitempty"` // namespace/name:port; absent if not ours, or if the kernel does not tell
	Set            string     `json:"set,omitempty"`     // the ipset that says that it is ours
	Family         string     `json:"family"`            // IPv4 or IPv6
	Protocol       string     `json:"protocol,omitempty"`
	Address        string     `json:"address,omitempty"`
	Port           uint16     `json:"port,omitempty"`
	Mark           uint32     `json:"mark,omitempty"`
	Bound          *bool      `json:"bound,omitempty"`   // address is on kube-ipvs0 or routed to it; absent if unknown, and of node ports
	Binding        string     `json:"binding,omitempty"` // routed, doubled; absent if assigned, as most are
	Source         string     `json:"source,omitempty"`  // the node's own packets to a routed address come from there
	MTU            uint32     `json:"mtu,omitempty"`     // of the node's own packets to the address
	Scheduler      string     `json:"scheduler"`
	Flags          []string   `json:"flags"` // persistent, ops, and the scheduler's, as ipvsadm calls them
	TimeoutSeconds uint32     `json:"timeoutSeconds,omitempty"`
	ClientPrefix   uint8      `json:"clientPrefix,omitempty"` // bits of a client's address that make it one client; with persistent
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

// ListSum is the kernel's counters or its rates per second.
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

// ListOf is v for programs.
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
		Scheduler:      s.Row.Scheduler,
		Flags:          listFlags(s.Row),
		TimeoutSeconds: s.Row.Timeout,
		Engine:         s.Row.Engine,
		RealServers:    make([]ListReal, len(s.RealServers)),
	}
	if s.Key.Mark == 0 {
		item.Protocol, item.Address, item.Port = s.Key.Protocol.String(), s.Key.Address.Addr().String(), s.Key.Address.Port()
	}
	if s.Bound == Yes || s.Bound == No {
		bound := s.Bound == Yes
		item.Bound = &bound
	}
	if s.Bound == Yes && s.Binding.Means != state.Assigned {
		item.Binding = s.Binding.Means.String()
	}
	if s.Binding.Source.IsValid() {
		item.Source = s.Binding.Source.String()
	}
	item.MTU = s.Binding.MTU
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
