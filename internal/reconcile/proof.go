// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// After a crash the set entries are all that tells which virtual servers and
// addresses are ours. So a virtual server or address is made only once its
// entry is known to be in the kernel, and an entry leaves only once what it
// proves is known to be gone. The order of tables sees to that where all goes
// well; the functions here where single rows fail.

func (c *Core) virtualServerIsProven(k state.VirtualServerKey) bool {
	wished := false
	for e := range c.proofs(k) {
		if c.entries.surelyHas(e) {
			return true
		}
		_, w := c.desired.Entries.Get(e)
		wished = wished || w
	}
	return !wished
}

func (c *Core) addressIsProven(a state.Address) bool {
	e := c.options.Ownership.AddressProof(a)
	_, wished := c.desired.Entries.Get(e)
	return c.entries.surelyHas(e) || !wished
}

// realServersHaveServer spares the kernel requests that it can only refuse. A
// virtual server that is added by the same delta counts: it must not be reached
// without its real servers.
func (c *Core) realServersHaveServer(k state.VirtualServerKey) bool {
	if _, there := c.virtualServers.get(k); there {
		return true
	}
	_, coming := slices.BinarySearchFunc(c.coming, k,
		func(r diff.Row[state.VirtualServerKey, state.VirtualServer], k state.VirtualServerKey) int {
			return r.Key.Compare(k)
		})
	return coming
}

// entryProvesNothing says whether all that e could prove is known to be gone:
// not before the tables have been listed once, nor while a failure to make it is
// all that is known.
func (c *Core) entryProvesNothing(e state.SetEntry) bool {
	if !c.virtualServers.listed || !c.addresses.listed {
		return false
	}
	for _, k := range c.provable(e) {
		if c.virtualServers.mayHave(k) && some(c.proofs(k), func(proof state.SetEntry) bool { return proof == e }) && !c.provenBesides(e, k) {
			return false
		}
	}
	a := state.Address{Addr: e.Address}
	return !c.addresses.mayHave(a) || c.options.Ownership.AddressProof(a) != e
}

// provenBesides says whether another entry that is to stay proves k as well, as
// where a change of the Service only moves it from one set to another.
func (c *Core) provenBesides(e state.SetEntry, k state.VirtualServerKey) bool {
	return some(c.proofs(k), func(other state.SetEntry) bool {
		_, wished := c.desired.Entries.Get(other)
		return other != e && wished && c.entries.surelyHas(other)
	})
}

// setsProveNothing says whether no row is to go that a set could prove. A set that
// nobody wishes goes with all its entries at once, so it goes after them.
func (c *Core) setsProveNothing() bool {
	if !c.virtualServers.listed || !c.addresses.listed {
		return false
	}
	for range c.virtualServers.unwished() {
		return false
	}
	for range c.addresses.unwished() {
		return false
	}
	return c.virtualServers.doubt.len()+c.addresses.doubt.len() == 0
}

// deviceIsNoUse says whether no address is to stay that goes with the device:
// others' nor ours.
func (c *Core) deviceIsNoUse() bool {
	for a := range c.addresses.believed() {
		if _, stays := c.wantAddress(a); stays {
			return false
		}
	}
	return !c.strangers
}

func (c *Core) proofs(k state.VirtualServerKey) iter.Seq[state.SetEntry] {
	_, local := c.local[k.Address.Addr()]
	return c.options.Ownership.Proofs(k, local)
}

// provable are the virtual servers that an entry of e's form can prove: the one
// with its address and port, or for a port alone those on the node's addresses.
func (c *Core) provable(e state.SetEntry) []state.VirtualServerKey {
	if e.Port == 0 && e.Protocol == 0 {
		return nil
	}
	if e.Address.IsValid() {
		return []state.VirtualServerKey{{Address: netip.AddrPortFrom(e.Address, e.Port), Protocol: e.Protocol}}
	}
	var keys []state.VirtualServerKey
	for a := range c.local {
		for _, p := range []state.Protocol{state.TCP, state.UDP, state.SCTP} {
			keys = append(keys, state.VirtualServerKey{Address: netip.AddrPortFrom(a, e.Port), Protocol: p})
		}
	}
	return keys
}

// provenBy says which observed virtual servers and addresses are ours by the
// observed entries, or by those believed if they could not be listed.
func (c *Core) provenBy(entries map[state.SetEntry]state.Entry) (func(state.VirtualServerKey) bool, func(state.Address) bool) {
	in := func(e state.SetEntry) bool {
		_, there := entries[e]
		if entries == nil {
			_, there = c.entries.get(e)
		}
		return there
	}
	servers := func(k state.VirtualServerKey) bool {
		return state.OurMark(k.Mark) || some(c.proofs(k), in)
	}
	addresses := func(a state.Address) bool { return in(c.options.Ownership.AddressProof(a)) }
	return servers, addresses
}

func some(entries iter.Seq[state.SetEntry], is func(state.SetEntry) bool) bool {
	for e := range entries {
		if is(e) {
			return true
		}
	}
	return false
}
