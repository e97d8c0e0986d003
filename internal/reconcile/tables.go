// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Table is a kernel table, for those who count rows.
type Table uint8

// The tables.
const (
	Sysctls Table = iota
	Sets
	Entries
	Chains
	Jumps
	Links
	VirtualServers
	RealServers
	Addresses

	Tables // is how many there are
)

// String is the table's name in logs and metrics.
func (t Table) String() string {
	if t >= Tables {
		return fmt.Sprintf("table%d", uint8(t))
	}
	return [Tables]string{
		"sysctls", "sets", "entries", "chains", "jumps", "links", "virtualServers", "realServers", "addresses",
	}[t]
}

// Count is how many rows of one table a delta adds, updates and removes.
type Count struct{ Add, Update, Remove int }

// Sum is how many rows it touches.
func (c Count) Sum() int { return c.Add + c.Update + c.Remove }

// Counts are the numbers of rows that d touches, by Table.
func Counts(d state.Delta) [Tables]Count {
	return [Tables]Count{
		count(d.Sysctls), count(d.Sets), count(d.Entries), count(d.Chains), count(d.Jumps), count(d.Links),
		count(d.VirtualServers), count(d.RealServers), count(d.Addresses),
	}
}

func count[K, V comparable](d diff.Delta[K, V]) Count {
	return Count{Add: len(d.Add), Update: len(d.Update), Remove: len(d.Remove)}
}

// Refused are the numbers of rows that failed, by Table.
func Refused(r kernel.Results) [Tables]int {
	return [Tables]int{
		len(r.Sysctls.Failed), len(r.Sets.Failed), len(r.Entries.Failed), len(r.Chains.Failed), len(r.Jumps.Failed),
		len(r.Links.Failed), len(r.VirtualServers.Failed), len(r.RealServers.Failed), len(r.Addresses.Failed),
	}
}

// Families is a set of IP families.
type Families uint8

// The sets that are not made of one family.
const (
	NoFamily     Families = 0
	BothFamilies Families = 1<<0 | 1<<1
)

// FamiliesOf is the set of one family.
func FamiliesOf(f state.Family) Families { return 1 << familyIndex(f) }

// Has says whether f is in the set.
func (s Families) Has(f state.Family) bool { return s&FamiliesOf(f) != 0 }

// familyIndex is where arrays by family have f.
func familyIndex(f state.Family) int {
	if f == state.IPv4 {
		return 0
	}
	return 1
}

// What a row is about: sysctls and links serve both families.

func familyOfServer(k state.VirtualServerKey) Families  { return FamiliesOf(k.Family()) }
func familyOfRealServer(k state.RealServerKey) Families { return FamiliesOf(k.Server.Family()) }
func familyOfAddress(a state.Address) Families          { return familyOfIP(a.Addr) }
func familyOfChain(k state.ChainKey) Families           { return FamiliesOf(k.Family) }
func familyOfJump(k state.JumpKey) Families             { return FamiliesOf(k.Family) }
func familyOfSysctl(state.SysctlName) Families          { return BothFamilies }
func familyOfLink(state.LinkName) Families              { return BothFamilies }
func familyOfIP(a netip.Addr) Families                  { return FamiliesOf(state.FamilyOf(a)) }

func familyOfSet(n state.SetName) Families    { return FamiliesOf(n.Family()) }
func familyOfEntry(e state.SetEntry) Families { return familyOfSet(e.Set) }

// familiesOfTouched are those of whose rows the wish changed.
func familiesOfTouched(t desired.Touched) Families {
	reals := among(t.RealServers, func(w desired.WereReals) Families { return familyOfServer(w.Server) })
	return reals | touched(t.Sysctls, familyOfSysctl) | touched(t.Sets, familyOfSet) | touched(t.Entries, familyOfEntry) |
		touched(t.Chains, familyOfChain) | touched(t.Jumps, familyOfJump) | touched(t.Links, familyOfLink) |
		touched(t.VirtualServers, familyOfServer) | touched(t.Addresses, familyOfAddress)
}

func touched[K, V comparable](rows []desired.Was[K, V], family func(K) Families) Families {
	return among(rows, func(w desired.Was[K, V]) Families { return family(w.Key) })
}

func among[K any](keys []K, family func(K) Families) Families {
	found := NoFamily
	for _, k := range keys {
		if found |= family(k); found == BothFamilies {
			break
		}
	}
	return found
}

// familiesOfDelta are those whose rows d touches.
func familiesOfDelta(d state.Delta) Families {
	return within(d.Sysctls, familyOfSysctl) | within(d.Sets, familyOfSet) | within(d.Entries, familyOfEntry) |
		within(d.Chains, familyOfChain) | within(d.Jumps, familyOfJump) | within(d.Links, familyOfLink) |
		within(d.VirtualServers, familyOfServer) | within(d.RealServers, familyOfRealServer) | within(d.Addresses, familyOfAddress)
}

func within[K, V comparable](d diff.Delta[K, V], family func(K) Families) Families {
	byRow := func(r diff.Row[K, V]) Families { return family(r.Key) }
	found := among(d.Add, byRow) | among(d.Remove, byRow)
	return found | among(d.Update, func(c diff.Change[K, V]) Families { return family(c.Key) })
}
