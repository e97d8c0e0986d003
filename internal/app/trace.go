// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ReadNode reads all tables of the kernel in the network namespace of the calling thread, and the addresses
// of the node's other devices. A table that cannot be read is nil and named in the error.
func ReadNode(ctx context.Context) (s state.State, addresses []netip.Addr, err error) {
	err = withKernel(ctx, func(k *linux.Kernel) (err error) {
		s, addresses, err = readNode(ctx, k)
		return err
	})
	return s, addresses, err
}

// ReadRules reads all rules in the network namespace of the calling thread.
func ReadRules(ctx context.Context) (rules state.Ruleset, err error) {
	err = withKernel(ctx, func(k *linux.Kernel) (err error) {
		rules, err = k.Ruleset(ctx)
		return err
	})
	return rules, err
}

// withKernel opens the kernel for a command that only reads it, and closes it again.
func withKernel(ctx context.Context, read func(*linux.Kernel) error) (err error) {
	c := config.Default()
	if _, err := openLog(c.Log, &Libraries{}); err != nil {
		return err
	}
	c.Families = linux.Families()
	k, err := linux.Open(ctx, ours(c))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	return read(k)
}

func readNode(ctx context.Context, k *linux.Kernel) (s state.State, addresses []netip.Addr, err error) {
	s, err = settled(k.Tables()).List(ctx)
	dummy, failed := k.Link.Index()
	if failed == nil {
		addresses, failed = k.Link.Elsewhere(ctx, dummy)
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return s, slices.Compact(addresses), errors.Join(err, failed)
}
