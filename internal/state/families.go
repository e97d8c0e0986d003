// SPDX-License-Identifier: Apache-2.0

package state

// Families is a set of IP families.
type Families uint8

// The sets that are not made of one family.
const (
	NoFamily     Families = 0
	BothFamilies Families = 1<<0 | 1<<1
)

// FamiliesOf is the set of one family.
func FamiliesOf(f Family) Families { return 1 << f.Index() }

// Has reports whether f is in the set.
func (s Families) Has(f Family) bool { return s&FamiliesOf(f) != 0 }

// Index is where arrays by family have f.
func (f Family) Index() int {
	if f == IPv4 {
		return 0
	}
	return 1
}

// Families are those that the sysctl serves: both.
func (SysctlName) Families() Families { return BothFamilies }

// Families are those that the device serves: both.
func (LinkName) Families() Families { return BothFamilies }

// Families is that of the set.
func (n SetName) Families() Families { return FamiliesOf(n.Family()) }

// Families is that of the entry's set.
func (e SetEntry) Families() Families { return e.Set.Families() }

// Families is that of the chain.
func (k ChainKey) Families() Families { return FamiliesOf(k.Family) }

// Families is that of the jump.
func (k JumpKey) Families() Families { return FamiliesOf(k.Family) }

// Families is that of the virtual server.
func (k VirtualServerKey) Families() Families { return FamiliesOf(k.Family()) }

// Families is that of the virtual server.
func (k RealServerKey) Families() Families { return k.Server.Families() }

// Families is that of the address.
func (a Address) Families() Families { return FamiliesOf(FamilyOf(a.Addr)) }
