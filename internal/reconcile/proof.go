// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// After a crash the set entries alone prove which virtual servers and addresses are ours. So a virtual server or
// address is made only once its entry is known to be in the kernel, and an entry leaves only once what it proves is
// known to be gone. The order of tables ensures that where all goes well; the functions here where single rows fail.

func (c *Core) virtualServerIsProven(k state.VirtualServerKey) bool { return c.proven(c.proofs(k)) }

func (c *Core) addressIsProven(a state.Address) bool { return c.proven(c.addressProofs(a)) }

// proven reports whether one of the proofs is there, or none is wanted.
func (c *Core) proven(proofs iter.Seq[state.SetEntry]) bool {
	wanted := false
	for e := range proofs {
		if c.entries.surelyHas(e) {
			return true
		}
		_, w := c.desired.Entries.Get(e)
		wanted = wanted || w
	}
	return !wanted
}

// realServersHaveServer spares the kernel requests that it can only refuse. A virtual server that is added by the same
// delta counts: it must not be reached without its real servers.
func (c *Core) realServersHaveServer(k state.VirtualServerKey) bool {
	if c.hasServer(k) {
		return true
	}
	_, added := slices.BinarySearchFunc(c.added, k,
		func(r diff.Row[state.VirtualServerKey, state.VirtualServer], k state.VirtualServerKey) int {
			return r.Key.Compare(k)
		})
	return added
}

// entryProvesNothing reports whether all that e could prove is known to be gone: not before the tables have been listed
// once, nor while a failure to make it is all that is known.
func (c *Core) entryProvesNothing(e state.SetEntry) bool {
	if !c.virtualServers.listed || !c.addresses.listed {
		return false
	}
	for _, k := range c.provable(e) {
		if c.virtualServers.mayHave(k) && c.provesAlone(e, c.proofs(k)) {
			return false
		}
	}
	a := state.Address{Addr: e.Address}
	return !c.addresses.mayHave(a) || !c.provesAlone(e, c.addressProofs(a))
}

// provesAlone reports whether e is among the proofs of a row, and no other that is to stay proves it as well. One does
// where a change of the Service only moves it from one set to another, or where another firewall is used.
func (c *Core) provesAlone(e state.SetEntry, proofs iter.Seq[state.SetEntry]) bool {
	return some(proofs, func(proof state.SetEntry) bool { return proof == e }) && !some(proofs, func(other state.SetEntry) bool {
		_, wanted := c.desired.Entries.Get(other)
		return other != e && wanted && c.entries.surelyHas(other)
	})
}

// setsProveNothing reports whether no row is to go that a set could prove. A set that is not desired goes with all its
// entries at once, so it goes after these rows.
func (c *Core) setsProveNothing() bool {
	if !c.virtualServers.listed || !c.addresses.listed {
		return false
	}
	for range c.virtualServers.undesired() {
		return false
	}
	for range c.addresses.undesired() {
		return false
	}
	return c.virtualServers.doubt.len()+c.addresses.doubt.len() == 0
}

// deviceIsUnused reports whether no address, others' or ours, is to stay that would go with the device.
func (c *Core) deviceIsUnused() bool {
	for a := range c.addresses.believed() {
		if _, stays := c.wantAddress(a); stays {
			return false
		}
	}
	return !c.audit.foreignAddresses
}

func (c *Core) proofs(k state.VirtualServerKey) iter.Seq[state.SetEntry] {
	_, local := c.local[k.Address.Addr()]
	return c.options.Ownership.Proofs(k, local)
}

func (c *Core) addressProofs(a state.Address) iter.Seq[state.SetEntry] {
	return c.options.Ownership.AddressProofs(a)
}

// provable are the virtual servers that an entry of e's form can prove: the one with its address and port, or for a
// port alone those on the node's addresses.
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

// provenServer reports whether an observed virtual server is ours by the observed entries.
func (c *Core) provenServer(k state.VirtualServerKey) bool {
	return state.OurMark(k.Mark) || some(c.proofs(k), c.hasEntry)
}

func (c *Core) provenAddress(a state.Address) bool { return some(c.addressProofs(a), c.hasEntry) }

// hasEntry reports whether an entry is among those that the audit listed, or is believed to be there if they could not
// be listed.
func (c *Core) hasEntry(e state.SetEntry) bool {
	if listed := c.records.listed.Entries; listed != nil {
		_, there := listed[e]
		return there
	}
	_, there := c.entries.get(e)
	return there
}

func some[T any](rows iter.Seq[T], is func(T) bool) bool {
	for row := range rows {
		if is(row) {
			return true
		}
	}
	return false
}
