// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// nftOutput is the format of the table of nftables.
const nftOutput = "nft"

// shownBy returns the firewall that an output format shows; false: either.
func shownBy(output string) (state.Firewall, bool) {
	switch output {
	case nftOutput:
		return state.OnNFTables, true
	case "ipset", "iptables", "ip6tables":
		return state.OnIPTables, true
	}
	return 0, false
}

// planFirewall returns the firewall to plan for. auto is decided on a node; here it is the one that the output shows.
func planFirewall(c config.Config, output string) (state.Firewall, error) {
	shown, only := shownBy(output)
	switch {
	case !only || shown == c.Firewall:
		return c.Firewall, nil
	case c.FirewallChoice == config.AutoFirewall:
		return shown, nil
	case c.Firewall == state.OnNFTables:
		return 0, usagef("-o %s: the firewall is nftables (--firewall): see -o nft", output)
	}
	return 0, usagef("-o %s: the firewall is iptables (--firewall): see -o ipset, -o iptables and -o ip6tables", output)
}

// holdsRows reports whether a firewall has sets or chains of s.
func holdsRows(s state.State, w state.Firewall) bool {
	for n := range s.Sets {
		if n.Firewall() == w {
			return true
		}
	}
	for k := range s.Chains {
		if k.Table.Firewall() == w {
			return true
		}
	}
	return false
}

// dumpTable writes our table of nftables, with all that is in it.
func (env Env) dumpTable(ctx context.Context) error {
	s, _, err := env.ReadNode(ctx)
	if s.Sets == nil || s.Entries == nil || s.Chains == nil || s.Jumps == nil {
		return explain(err)
	}
	if holdsRows(s, state.OnNFTables) {
		env.sayIfNotRunning()
		return env.print(func(w io.Writer) error { return render.NFT(w, s) })
	}
	if holdsRows(s, state.OnIPTables) {
		return errors.New("the firewall of this node is iptables: see ipset list, iptables-save and ip6tables-save")
	}
	return fmt.Errorf("there is no table %s of nftables", state.NFTable)
}
