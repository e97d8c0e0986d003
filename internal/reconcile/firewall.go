// SPDX-License-Identifier: Apache-2.0

package reconcile

import "github.com/kube-ipvs/kube-ipvs/internal/state"

// A node changes its firewall while packets come: from iptables to nftables or back, also from rules of kube-proxy. The
// rows of both firewalls are different keys of the same tables, so a diff moves the node. Three rules keep packets from
// meeting neither or half of one:
//
//   - the jumps of the desired firewall come last, all at once, when the entries of all Services are in its sets;
//   - rows of the other firewall leave only once these jumps are there;
//   - its sets leave after its chains.
//
// For a moment packets meet both. They mean the same, and of two rules that translate a connection the first one does
// so alone.

// otherFirewall reports whether a rule table is not in the firewall that is to hold our rules.
func (c *Core) otherFirewall(t state.RuleTable) bool {
	for k := range c.desired.Jumps.All() {
		return k.Table.Firewall() != t.Firewall()
	}
	return false
}

// jumpsAlone reports whether no rules of another firewall are there that packets meet too.
func (c *Core) jumpsAlone(of state.RuleTable) bool {
	other := func(t state.RuleTable) bool { return t.Firewall() != of.Firewall() }
	return !some(c.jumps.undesired(), func(k state.JumpKey) bool { return other(k.Table) }) &&
		!some(c.chains.undesired(), func(k state.ChainKey) bool { return other(k.Table) })
}

// jumpMayCome holds jumps back while another firewall serves and Services are still to be written, by this delta or a
// later one.
func (c *Core) jumpMayCome(k state.JumpKey) bool {
	d := &c.records.delta
	written := c.sharedRowsRemovable() && d.Entries.Len()+d.VirtualServers.Len() == 0
	return written || c.jumpsAlone(k.Table)
}

// firewallLets reports whether a chain, or a jump to it, may leave as far as the change of firewalls goes.
func (c *Core) firewallLets(t state.RuleTable) bool {
	if !c.otherFirewall(t) {
		return true
	}
	for k := range c.desired.Jumps.All() {
		if !c.jumps.surelyHas(k) {
			return false
		}
	}
	return c.handover.predecessor == nil || c.handover.stage == everything
}

// chainsLet reports whether a set may leave: not while chains of its firewall are to leave that may look into it.
func (c *Core) chainsLet(n state.SetName) bool {
	return !some(c.chains.undesired(), func(k state.ChainKey) bool {
		return k.Table.Firewall() == n.Firewall() && c.otherFirewall(k.Table)
	})
}
