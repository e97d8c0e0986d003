// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// chooseFirewall returns the firewall for our rules. Whether the kernel takes them in nftables is tried: a kernel may
// lack a single expression that they need, and its version says nothing about how it was built.
func chooseFirewall(ctx context.Context, c config.Config, log *zap.Logger) (state.Firewall, error) {
	if c.FirewallChoice == config.IPTablesFirewall {
		return state.OnIPTables, nil
	}
	c.Firewall = state.OnNFTables
	refusal := tryNFTables(ctx, c)
	switch {
	case refusal == nil:
		log.Info("rules go to nftables", zap.String("table", state.NFTable))
		return state.OnNFTables, nil
	case c.FirewallChoice == config.NFTablesFirewall || ctx.Err() != nil:
		return 0, fmt.Errorf("firewall: nftables: %w", refusal)
	}
	log.Info("rules go to iptables, as the kernel does not take them in nftables", zap.Error(refusal))
	return state.OnIPTables, nil
}

func tryNFTables(ctx context.Context, c config.Config) (err error) {
	table, err := nftables.Open(c.Families...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	return table.Try(ctx, plan.Base(c).State())
}
