// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/iptables"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nft"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A node that changes its firewall has rows of ours in both for a while, and so has one on which another service proxy
// worked. So the other firewall is opened too, if it has rows of ours: they prove which virtual servers are ours, and
// leave once all is in the first. A node without such rows never asks the other one again.

// InUse returns the firewall that has rows of ours: nftables if it has our table.
func InUse(ctx context.Context) (state.Firewall, error) {
	c, err := nftables.Open(state.IPv4, state.IPv6)
	if err != nil {
		return 0, err
	}
	has, err := hasRows(ctx, c.Sets())
	if err == nil && has {
		return state.OnNFTables, c.Close()
	}
	return state.OnIPTables, errors.Join(err, c.Close())
}

func hasRows[K, V comparable](ctx context.Context, s kernel.Store[K, V]) (bool, error) {
	rows, err := s.List(ctx)
	return len(rows) > 0, err
}

// openBesideIPTables opens iptables, and our table of nftables if there is one.
func (k *Kernel) openBesideIPTables(ctx context.Context) (err error) {
	if k.Rules, err = iptables.Open(ctx, k.ours.Chain, k.ours.Families...); err != nil {
		return err
	}
	if k.Table, err = k.openTable(); err != nil {
		return err
	}
	has, err := hasRows(ctx, k.Table.Sets())
	if err == nil && (has || k.ours.Both) {
		k.closers = append(k.closers, k.Table)
		return nil
	}
	err = errors.Join(err, k.Table.Close())
	k.Table = nil
	return err
}

// openBesideNFTables opens ipset and iptables if they have rows of ours. Programs are run only then.
func (k *Kernel) openBesideNFTables(ctx context.Context) error {
	if sets, err := k.openSets(); err == nil { // a kernel without ipset has no sets of ours
		rows, err := sets.Sets().List(ctx)
		if err != nil {
			return errors.Join(err, sets.Close())
		}
		ours := k.ours.Both
		for n := range rows {
			ours = ours || k.ours.Set(n)
		}
		if ours {
			k.Sets, k.closers = sets, append(k.closers, sets)
		} else if err := sets.Close(); err != nil {
			return err
		}
	}
	why, err := OldRules(ctx, k.ours.Chain)
	if err != nil || why == "" && !k.ours.Both {
		return err
	}
	rules, err := iptables.Open(ctx, k.ours.Chain, k.ours.Families...)
	if err != nil && why == "" {
		return nil
	}
	if err != nil {
		k.beyond = fmt.Errorf("%s, which need the tools of iptables: %w", why, err)
		return nil
	}
	has, err := hasRows(ctx, rules.Chains())
	if err == nil && (has || k.ours.Both) {
		k.Rules = rules
	}
	return err
}

// Beyond returns why rules of iptables that may be ours, or those of another service proxy, can't be read or removed
// here; nil: there are none.
func (k *Kernel) Beyond() error { return k.beyond }

// OldRules returns what shows that iptables may have chains of ours, or of another service proxy, by the name of a
// chain; empty: it has none. It runs no program. Chains of iptables-nft are in nftables. Of the others, the kernel shows
// only which tables exist.
func OldRules(ctx context.Context, ours func(chain string) bool) (_ string, err error) {
	c, err := nft.Open()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	all := state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
	if err := c.Ruleset(ctx, all, func(state.Family, string) bool { return false }); err != nil {
		return "", err
	}
	for k := range all.Chains {
		if ours(k.Name) && strings.HasPrefix(string(k.Table), "nftables ip") {
			return fmt.Sprintf("there are rules of iptables (chain %s)", k.Name), nil
		}
	}
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		tables, err := os.ReadFile("/proc/thread-self/net/" + name)
		if err == nil && strings.TrimSpace(string(tables)) != "" {
			return "there are tables of iptables-legacy (" + strings.Join(strings.Fields(string(tables)), ", ") + ")", nil
		}
	}
	return "", nil
}

// Watch watches for changes of our table of nftables by other programs; nil: the firewall is iptables, which has no
// events.
func (k *Kernel) Watch() (*nftables.Watch, error) {
	if k.ours.Firewall != state.OnNFTables {
		return nil, nil
	}
	return k.Table.Watch()
}

// rows sets the stores of what is in firewalls: of one alone, or of both by their keys.
func (k *Kernel) rows(t *kernel.Tables) {
	if k.Sets != nil {
		t.Sets, t.Entries = k.Sets.Sets(), k.Sets.Entries()
	}
	if k.Rules != nil {
		t.Chains, t.Jumps = k.Rules.Chains(), k.Rules.Jumps()
	}
	if k.Rules != nil && k.ours.Firewall == state.OnNFTables && !k.ours.Both { // each list would run a program
		k.old = kernel.Retiring(t.Chains)
		t.Chains, t.Jumps = k.old, kernel.Retiring(t.Jumps)
	}
	if k.Table != nil {
		*t = WithTable(*t, k.Table)
	}
}

// WithTable adds our table of nftables to tables that have what is in iptables and ipset, or nothing of it.
func WithTable(t kernel.Tables, c *nftables.Conn) kernel.Tables {
	t.Sets = kernel.Routed(kernel.Parts[state.SetName, state.Set]{IPTables: t.Sets, NFTables: c.Sets()}, state.SetName.Firewall)
	t.Entries = kernel.Routed(kernel.Parts[state.SetEntry, state.Entry]{IPTables: t.Entries, NFTables: c.Entries()},
		func(e state.SetEntry) state.Firewall { return e.Set.Firewall() })
	t.Chains = kernel.RoutedChains(kernel.Parts[state.ChainKey, state.Chain]{IPTables: t.Chains, NFTables: c.Chains()})
	t.Jumps = kernel.RoutedJumps(kernel.Parts[state.JumpKey, state.Jump]{IPTables: t.Jumps, NFTables: c.Jumps()})
	return t
}

// Ruleset returns all rules of the node, but for those of our table of nftables, as far as they can be read without
// running a program that this kernel has no other use for.
func (k *Kernel) Ruleset(ctx context.Context) (r state.Ruleset, err error) {
	r = state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
	shown := func(state.Family, string) bool { return false }
	if k.Rules != nil && (k.old == nil || !k.old.Retired()) {
		if r, err = k.Rules.Ruleset(ctx); err != nil {
			return r, err
		}
		shown = k.Rules.Shows
	}
	if k.nft == nil {
		return r, nil
	}
	return r, k.nft.Ruleset(ctx, r, func(f state.Family, table string) bool { return table == state.NFTable || shown(f, table) })
}
