// SPDX-License-Identifier: Apache-2.0

// Package state holds the nouns: the key and the value of every kernel table
// that a Service proxy needs, and State, one map for each of them.
//
// Keys and values are comparable, made of netip types, small integers and
// short strings, so that ==, a map and one generic diff do all the work. A key
// never changes its row's identity. What is wished (VirtualServer, RealServer)
// and what is only observed (counters) are different types.
//
// The package decides nothing and reaches nothing: no Kubernetes, no kernel.
package state

import "github.com/kube-ipvs/kube-ipvs/internal/diff"

// State is the content of the kernel's tables, wished or observed.
type State struct {
	Sysctls        map[SysctlName]string
	Sets           map[SetName]Set
	Entries        map[SetEntry]Entry
	Chains         map[ChainKey]Chain
	Jumps          map[JumpKey]Jump
	Links          map[LinkName]Link
	VirtualServers map[VirtualServerKey]VirtualServer
	RealServers    map[RealServerKey]RealServer
	Addresses      map[Address]Binding
}

// New returns a State whose tables are all empty and writable.
func New() State {
	return State{
		Sysctls:        map[SysctlName]string{},
		Sets:           map[SetName]Set{},
		Entries:        map[SetEntry]Entry{},
		Chains:         map[ChainKey]Chain{},
		Jumps:          map[JumpKey]Jump{},
		Links:          map[LinkName]Link{},
		VirtualServers: map[VirtualServerKey]VirtualServer{},
		RealServers:    map[RealServerKey]RealServer{},
		Addresses:      map[Address]Binding{},
	}
}

// Delta is one change of several tables. The order in which its parts may be
// made is the kernel package's business.
type Delta struct {
	Sysctls        diff.Delta[SysctlName, string]
	Sets           diff.Delta[SetName, Set]
	Entries        diff.Delta[SetEntry, Entry]
	Chains         diff.Delta[ChainKey, Chain]
	Jumps          diff.Delta[JumpKey, Jump]
	Links          diff.Delta[LinkName, Link]
	VirtualServers diff.Delta[VirtualServerKey, VirtualServer]
	RealServers    diff.Delta[RealServerKey, RealServer]
	Addresses      diff.Delta[Address, Binding]
}

// Diff returns what turns have into want.
func Diff(have, want State) Delta {
	return Delta{
		Sysctls:        diff.Of(have.Sysctls, want.Sysctls, SysctlName.Compare),
		Sets:           diff.Of(have.Sets, want.Sets, SetName.Compare),
		Entries:        diff.Of(have.Entries, want.Entries, SetEntry.Compare),
		Chains:         diff.Of(have.Chains, want.Chains, ChainKey.Compare),
		Jumps:          diff.Of(have.Jumps, want.Jumps, JumpKey.Compare),
		Links:          diff.Of(have.Links, want.Links, LinkName.Compare),
		VirtualServers: diff.Of(have.VirtualServers, want.VirtualServers, VirtualServerKey.Compare),
		RealServers:    diff.Of(have.RealServers, want.RealServers, RealServerKey.Compare),
		Addresses:      diff.Of(have.Addresses, want.Addresses, Address.Compare),
	}
}

// Len is the number of rows that d touches, over all tables.
func (d Delta) Len() int {
	return d.Sysctls.Len() + d.Sets.Len() + d.Entries.Len() + d.Chains.Len() + d.Jumps.Len() +
		d.Links.Len() + d.VirtualServers.Len() + d.RealServers.Len() + d.Addresses.Len()
}

// Apply makes the changes of d in s.
func (d Delta) Apply(s State) {
	d.Sysctls.Apply(s.Sysctls)
	d.Sets.Apply(s.Sets)
	d.Entries.Apply(s.Entries)
	d.Chains.Apply(s.Chains)
	d.Jumps.Apply(s.Jumps)
	d.Links.Apply(s.Links)
	d.VirtualServers.Apply(s.VirtualServers)
	d.RealServers.Apply(s.RealServers)
	d.Addresses.Apply(s.Addresses)
}
