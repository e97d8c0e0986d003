// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

// Fragment is what one owner, a Service or the base, wants in the kernel's tables. No key appears twice in one table,
// and each table is sorted by key, so that equal fragments are equal values.
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

	// Ranks are by what right the owner claims virtual servers, of those that are not Allocated.
	Ranks []diff.Row[VirtualServerKey, Rank]

	// Refused are the addresses that the owner would have if they were not in use elsewhere: none of them is to be kept
	// for what drains.
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
	f := Fragment{Notes: notes}
	for t, k := range kinds() {
		k.list(Table(t), &s, &f)
	}
	return f
}

// State is f as tables of its own, without the notes.
func (f Fragment) State() State {
	var s State
	for t, k := range kinds() {
		k.collect(Table(t), &f, &s)
	}
	return s
}

// HealthCheck is the answer to a load balancer that asks whether to send a Service's traffic to this node. The zero
// value: it does not answer.
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
)

// reasons are the texts of all reasons, fit to be an event's reason.
func reasons() []string {
	return []string{
		SkippedService:      "SkippedService",
		InvalidAddress:      "InvalidAddress",
		InvalidPort:         "InvalidPort",
		InvalidProtocol:     "InvalidProtocol",
		InvalidAffinity:     "InvalidAffinity",
		InvalidSlice:        "InvalidSlice",
		TooLong:             "TooLong",
		ProtectedAddress:    "ProtectedAddress",
		InvalidPolicy:       "InvalidTrafficPolicy",
		InvalidRange:        "InvalidSourceRange",
		InvalidScheduler:    "InvalidScheduler",
		InvalidDrainTimeout: "InvalidDrainTimeout",
		IgnoredAddress:      "IgnoredAddress",
	}
}

// Reasons are all reasons.
func Reasons() []Reason {
	var all []Reason
	for r := range reasons()[1:] {
		all = append(all, Reason(r+1))
	}
	return all
}

// String is an event reason in CamelCase.
func (r Reason) String() string {
	if known := reasons(); int(r) < len(known) && r > 0 {
		return known[r]
	}
	return fmt.Sprintf("Reason%d", uint8(r))
}

// Rank is by what right an owner claims the address of a virtual server. The lower wins.
type Rank uint8

// The ranks. The zero one is that of what the API server itself gives to one Service at a time.
const (
	Allocated Rank = iota // a cluster IP or a NodePort
	Balanced              // a load balancer's address: who may write the status of Services gave it
	External              // an external IP: who may write the Service named it
	Derived               // where clients in the cluster get all endpoints: no object names it
)

// String says what the address is to its owner.
func (r Rank) String() string {
	if names := [...]string{"cluster IP or NodePort", "load balancer's address", "external IP", "way for clients in the cluster"}; int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Rank%d", uint8(r))
}
