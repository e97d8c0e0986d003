// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

// Fragment is what one owner, a Service or the base, wishes to see in the
// kernel's tables. No key appears twice in one table, and each table is sorted
// by key, so that equal wishes are equal values.
type Fragment struct {
	Sysctls        []diff.Row[SysctlName, string]
	Sets           []diff.Row[SetName, Set]
	Entries        []diff.Row[SetEntry, Entry]
	Chains         []diff.Row[ChainKey, Chain]
	Jumps          []diff.Row[JumpKey, Jump]
	Links          []diff.Row[LinkName, Link]
	VirtualServers []diff.Row[VirtualServerKey, VirtualServer]
	RealServers    []diff.Row[RealServerKey, RealServer]
	Addresses      []diff.Row[Address, Binding]

	// Ranks are by what right the owner claims virtual servers, of those that are
	// not Allocated.
	Ranks []diff.Row[VirtualServerKey, Rank]

	// Refused are the addresses that the owner would have if somebody else were not
	// there: none of them is to be kept for what drains.
	Refused []netip.Addr

	// HealthCheck is what a load balancer may ask of this node.
	HealthCheck HealthCheck

	// Forwards are its NodePorts on localhost, of which the kernel has no rows.
	Forwards []Forward

	// DrainTimeout is the owner's own time for real servers to drain, if Drains.
	DrainTimeout time.Duration
	Drains       bool

	// Notes say which parts of the objects are not in the rows, and why.
	Notes []Note
}

// FragmentOf is s as a fragment, with notes.
func FragmentOf(s State, notes []Note) Fragment {
	return Fragment{
		Sysctls:        rows(s.Sysctls, SysctlName.Compare),
		Sets:           rows(s.Sets, SetName.Compare),
		Entries:        rows(s.Entries, SetEntry.Compare),
		Chains:         rows(s.Chains, ChainKey.Compare),
		Jumps:          rows(s.Jumps, JumpKey.Compare),
		Links:          rows(s.Links, LinkName.Compare),
		VirtualServers: rows(s.VirtualServers, VirtualServerKey.Compare),
		RealServers:    rows(s.RealServers, RealServerKey.Compare),
		Addresses:      rows(s.Addresses, Address.Compare),
		Notes:          notes,
	}
}

// rows is nil for an empty table: equal fragments are equal to the last nil.
func rows[K, V comparable](table map[K]V, compare func(a, b K) int) []diff.Row[K, V] {
	if len(table) == 0 {
		return nil
	}
	list := make([]diff.Row[K, V], 0, len(table))
	for k, v := range table {
		list = append(list, diff.Row[K, V]{Key: k, Value: v})
	}
	slices.SortFunc(list, func(a, b diff.Row[K, V]) int { return compare(a.Key, b.Key) })
	return list
}

// State is f as tables of its own, without the notes.
func (f Fragment) State() State {
	return State{
		Sysctls:        table(f.Sysctls),
		Sets:           table(f.Sets),
		Entries:        table(f.Entries),
		Chains:         table(f.Chains),
		Jumps:          table(f.Jumps),
		Links:          table(f.Links),
		VirtualServers: table(f.VirtualServers),
		RealServers:    table(f.RealServers),
		Addresses:      table(f.Addresses),
	}
}

func table[K, V comparable](rows []diff.Row[K, V]) map[K]V {
	t := make(map[K]V, len(rows))
	for _, r := range rows {
		t[r.Key] = r.Value
	}
	return t
}

// HealthCheck is the answer to a load balancer that asks whether to send a
// Service's traffic to this node. The zero value: nobody may ask.
type HealthCheck struct {
	Port       uint16 // TCP, where it asks
	IPv4, IPv6 Health
}

// Health is the answer in one family.
type Health struct {
	Served    bool // the Service is served in the family at all
	Endpoints int  // ready ones on this node, by address
}

// Note says that something an object asks for is not done, and why.
type Note struct {
	Reason  Reason
	Field   string // the path in the object: "spec.clusterIPs[1]"
	Message string
}

// String is one line: "InvalidAddress spec.clusterIPs[1]: ...".
func (n Note) String() string {
	return fmt.Sprintf("%v %s: %s", n.Reason, n.Field, n.Message)
}

// Reason is the kind of a Note. Its String is fit to be an event's reason.
type Reason uint8

// The reasons of notes.
const (
	SkippedService      Reason = iota + 1 // the whole Service is not for us, on purpose
	InvalidAddress                        // an address is none, or one that cannot be served
	InvalidPort                           // a port is out of range, or there twice
	InvalidProtocol                       // a protocol is none of TCP, UDP, SCTP
	InvalidAffinity                       // the affinity time is out of range
	InvalidSlice                          // an EndpointSlice contradicts itself or its Service
	TooLong                               // a list is longer than can be kept
	ProtectedAddress                      // an address is a node's, the API server's or a gateway's
	InvalidPolicy                         // a traffic policy is not known
	InvalidRange                          // a source range is no network
	InvalidScheduler                      // a scheduler, its flags or weights are not known or don't fit
	InvalidDrainTimeout                   // a drain timeout is no time
	IgnoredAddress                        // addresses of this kind are turned off in the cluster

	afterReasons
)

// Reasons are all reasons.
func Reasons() []Reason {
	var all []Reason
	for r := SkippedService; r < afterReasons; r++ {
		all = append(all, r)
	}
	return all
}

// String is an event reason in CamelCase.
func (r Reason) String() string {
	switch r {
	case SkippedService:
		return "SkippedService"
	case InvalidAddress:
		return "InvalidAddress"
	case InvalidPort:
		return "InvalidPort"
	case InvalidProtocol:
		return "InvalidProtocol"
	case InvalidAffinity:
		return "InvalidAffinity"
	case InvalidSlice:
		return "InvalidSlice"
	case TooLong:
		return "TooLong"
	case ProtectedAddress:
		return "ProtectedAddress"
	case InvalidPolicy:
		return "InvalidTrafficPolicy"
	case InvalidRange:
		return "InvalidSourceRange"
	case InvalidScheduler:
		return "InvalidScheduler"
	case InvalidDrainTimeout:
		return "InvalidDrainTimeout"
	case IgnoredAddress:
		return "IgnoredAddress"
	}
	return fmt.Sprintf("Reason%d", uint8(r))
}
