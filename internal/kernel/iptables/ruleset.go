// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"fmt"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ruleset returns all rules of the families, whoever made them.
func (c *Conn) Ruleset(ctx context.Context) (state.Ruleset, error) {
	all := state.Ruleset{Chains: map[state.ChainKey]state.Chain{}, Bases: map[state.ChainKey]state.Base{}}
	for _, f := range c.families {
		tables, err := c.look(ctx, f)
		if err != nil {
			return state.Ruleset{}, fmt.Errorf("listing all %v rules: %w", f, err)
		}
		for name, table := range tables {
			for chain, builtIn := range table.builtIn {
				k := state.ChainKey{Family: f, Table: name, Name: chain}
				all.Chains[k] = state.ChainOf(table.rules[chain]...)
				if builtIn {
					b := state.BuiltIn(name, chain)
					b.Drops = table.drops[chain]
					all.Bases[k] = b
				}
			}
		}
	}
	return all, nil
}
