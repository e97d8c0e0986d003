// SPDX-License-Identifier: Apache-2.0

// Package state holds the nouns: the key and the value of every kernel table that a Service proxy needs, the list of
// these tables (Table), and the records that have a part for each of them: State, Delta and Fragment.
//
// Keys and values are comparable, made of netip types, small integers and short strings, so that ==, a map and one
// generic diff do all the work. A key never changes its row's identity. What is desired (VirtualServer, RealServer) and
// what is only observed (counters) are different types.
//
// The package decides nothing and reaches nothing: no Kubernetes, no kernel.
package state

import "github.com/kube-ipvs/kube-ipvs/internal/diff"

// State is the content of the kernel's tables, desired or observed.
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
	var s State
	for t, k := range kinds() {
		k.make(Table(t), &s)
	}
	return s
}

// Missing are the tables that are nil: they could not be read, or were not asked for.
func (s State) Missing() []Table {
	var missing []Table
	for t, k := range kinds() {
		if k.missing(Table(t), &s) {
			missing = append(missing, Table(t))
		}
	}
	return missing
}

// Delta is one change of several tables. The order in which its parts may be made is the kernel package's business.
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
	var d Delta
	for t, k := range kinds() {
		k.diff(Table(t), &have, &want, &d)
	}
	return d
}

// Apply makes the changes of d in s.
func (d Delta) Apply(s State) {
	for t, k := range kinds() {
		k.apply(Table(t), &d, &s)
	}
}

// Count is how many rows of one table a delta adds, updates and removes.
type Count struct{ Add, Update, Remove int }

// Sum is how many rows it touches.
func (c Count) Sum() int { return c.Add + c.Update + c.Remove }

// Counts are the numbers of rows that d touches, by Table. Every change asks for them several times, so they name the
// tables, as Families does: to range over the list takes a microsecond and an allocation.
func (d Delta) Counts() [Tables]Count {
	return [Tables]Count{
		count(d.Sysctls), count(d.Sets), count(d.Entries), count(d.Chains), count(d.Jumps), count(d.Links),
		count(d.VirtualServers), count(d.RealServers), count(d.Addresses),
	}
}

func count[K, V comparable](d diff.Delta[K, V]) Count {
	return Count{Add: len(d.Add), Update: len(d.Update), Remove: len(d.Remove)}
}

// Len is the number of rows that d touches, over all tables.
func (d Delta) Len() int {
	n := 0
	for _, c := range d.Counts() {
		n += c.Sum()
	}
	return n
}

// Families are those whose rows d touches.
func (d Delta) Families() Families {
	return families(d.Sysctls) | families(d.Sets) | families(d.Entries) | families(d.Chains) | families(d.Jumps) |
		families(d.Links) | families(d.VirtualServers) | families(d.RealServers) | families(d.Addresses)
}

func families[K Key[K], V comparable](d diff.Delta[K, V]) Families {
	found := NoFamily
	for k := range d.Keys() {
		if found |= k.Families(); found == BothFamilies {
			break
		}
	}
	return found
}
