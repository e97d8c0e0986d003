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
	if err == nil && has {
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
		ours := false
		for n := range rows {
			ours = ours || k.ours.Set(n)
		}
		if ours {
			k.Sets, k.closers = sets, append(k.closers, sets)
		} else if err := sets.Close(); err != nil {
			return err
		}
	}
	why, err := k.oldRules(ctx)
	if err != nil || why == "" {
		return err
	}
	rules, err := iptables.Open(ctx, k.ours.Chain, k.ours.Families...)
	if err != nil {
		k.beyond = fmt.Errorf("%s, which need the tools of iptables: %w", why, err)
		return nil
	}
	has, err := hasRows(ctx, rules.Chains())
	if err == nil && has {
		k.Rules = rules
	}
	return err
}

// Beyond returns why rules of iptables that may be ours, or those of another service proxy, can't be read or removed
// here; nil: there are none.
func (k *Kernel) Beyond() error { return k.beyond }

// oldRules returns what shows that iptables may have chains of ours; empty: it has none. It runs no program. Chains of
// iptables-nft are in nftables. Of the others, the kernel shows only which tables exist.
func (k *Kernel) oldRules(ctx context.Context) (string, error) {
	if k.nft != nil {
		all := state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
		if err := k.nft.Ruleset(ctx, all, func(state.Family, string) bool { return false }); err != nil {
			return "", err
		}
		for c := range all.Chains {
			if k.ours.Chain(c.Name) && strings.HasPrefix(string(c.Table), "nftables ip") {
				return fmt.Sprintf("there are rules of iptables (chain %s)", c.Name), nil
			}
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

// rows sets the stores of what is in firewalls: of one alone, or of both by their keys.
func (k *Kernel) rows(t *kernel.Tables) {
	var sets kernel.Parts[state.SetName, state.Set]
	var entries kernel.Parts[state.SetEntry, state.Entry]
	var chains kernel.Parts[state.ChainKey, state.Chain]
	var jumps kernel.Parts[state.JumpKey, state.Jump]
	if k.Sets != nil {
		sets.IPTables, entries.IPTables = k.Sets.Sets(), k.Sets.Entries()
	}
	if k.Rules != nil {
		chains.IPTables, jumps.IPTables = k.Rules.Chains(), k.Rules.Jumps()
	}
	if k.Table != nil {
		sets.NFTables, entries.NFTables = k.Table.Sets(), k.Table.Entries()
		chains.NFTables, jumps.NFTables = k.Table.Chains(), k.Table.Jumps()
	}
	if k.Table == nil {
		t.Sets, t.Entries, t.Chains, t.Jumps = sets.IPTables, entries.IPTables, chains.IPTables, jumps.IPTables
		return
	}
	t.Sets = kernel.Routed(sets, state.SetName.Firewall)
	t.Entries = kernel.Routed(entries, func(e state.SetEntry) state.Firewall { return e.Set.Firewall() })
	t.Chains, t.Jumps = kernel.RoutedChains(chains), kernel.RoutedJumps(jumps)
}

// Ruleset returns all rules of the node, ours or not, as far as they can be read without running a program that this
// kernel has no other use for.
func (k *Kernel) Ruleset(ctx context.Context) (r state.Ruleset, err error) {
	r = state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
	shown := func(state.Family, string) bool { return false }
	if k.Rules != nil {
		if r, err = k.Rules.Ruleset(ctx); err != nil {
			return r, err
		}
		shown = k.Rules.Shows
	}
	if k.nft == nil {
		return r, nil
	}
	return r, k.nft.Ruleset(ctx, r, shown)
}
