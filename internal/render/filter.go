// SPDX-License-Identifier: Apache-2.0

package render

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Filter says which virtual servers somebody wants to see. What is zero does not count; all that is not must
// match.
type Filter struct {
	Namespace, Name, PortName string // of the Service

	// Address matches a virtual server that has it, or one of whose real servers has it; and so does Port
	// along with it.
	Address netip.Addr
	Port    uint16

	Protocol state.Protocol
}

// Only returns what of v matches f.
func (v View) Only(f Filter) View {
	only := View{Title: v.Title}
	for _, s := range v.VirtualServers {
		if f.matches(s) {
			only.VirtualServers = append(only.VirtualServers, s)
		}
	}
	for _, e := range v.Unserved.Entries {
		if f.service(e.Comment) && f.entry(e.Key) {
			only.Unserved.Entries = append(only.Unserved.Entries, e)
		}
	}
	for _, a := range v.Unserved.Addresses {
		if f.onlyAddress() && f.address(netip.AddrPortFrom(a.Addr, f.Port)) {
			only.Unserved.Addresses = append(only.Unserved.Addresses, a)
		}
	}
	return only
}

// Empty tells whether there is nothing in v.
func (v View) Empty() bool {
	return len(v.VirtualServers)+len(v.Unserved.Entries)+len(v.Unserved.Addresses) == 0
}

func (f Filter) matches(s VirtualServer) bool {
	there := s.Key.Mark == 0 && f.address(s.Key.Address) ||
		slices.ContainsFunc(s.RealServers, func(r RealServer) bool { return f.address(r.Address) })
	return f.service(s.Owner.Service) &&
		(f.Protocol == 0 || f.Protocol == s.Key.Protocol) &&
		(there || !f.Address.IsValid())
}

func (f Filter) entry(e state.SetEntry) bool {
	return (f.Protocol == 0 || f.Protocol == e.Protocol) &&
		(!f.Address.IsValid() || f.address(netip.AddrPortFrom(e.Address, e.Port)))
}

func (f Filter) address(a netip.AddrPort) bool {
	return (!f.Address.IsValid() || f.Address == a.Addr()) && (f.Port == 0 || f.Port == a.Port())
}

func (f Filter) onlyAddress() bool {
	f.Address, f.Port = netip.Addr{}, 0
	return f == Filter{}
}

// service matches the name in a set entry's comment.
func (f Filter) service(comment string) bool {
	namespace, name, port := splitService(comment)
	return (f.Namespace == "" || f.Namespace == namespace) &&
		(f.Name == "" || f.Name == name) &&
		(f.PortName == "" || f.PortName == port)
}

// splitService takes "namespace/name:port" apart.
func splitService(comment string) (namespace, name, port string) {
	namespace, rest, _ := strings.Cut(comment, "/")
	name, port, _ = strings.Cut(rest, ":")
	return namespace, name, port
}
