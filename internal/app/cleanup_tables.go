// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/conntrack"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipset"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/iptables"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// cleanupTables are the tables that this kernel has. Unlike the daemon, cleanup works without some of them.
type cleanupTables struct {
	tables  kernel.Tables
	local   []netip.Addr
	missing []string // in sentences
	broken  error    // tables that should be there but cannot be opened
	servers *ipvs.Conn
	flows   *conntrack.Conn
	closers []io.Closer
}

func openCleanupTables(ctx context.Context) (m *cleanupTables, err error) {
	m = &cleanupTables{tables: kernel.Absent(errors.ErrUnsupported)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, open := range []func(context.Context) error{m.openServers, m.openSets, m.openLink, m.openRules, m.openTable, m.openFlows} {
		if err := open(ctx); err != nil {
			return m, err
		}
	}
	return m, nil
}

// tolerate returns nil if err means that the kernel lacks a table. Then it notes what is missing.
func (m *cleanupTables) tolerate(err error, missing string) error {
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		m.missing = append(m.missing, missing)
		return nil
	}
	return err
}

func (m *cleanupTables) openServers(context.Context) error {
	c, err := ipvs.Open()
	if err != nil {
		return m.tolerate(err, "this kernel has no IPVS, so there are no virtual servers")
	}
	m.servers, m.closers = c, append(m.closers, c)
	// A missed row would stay, but not the entry that proves it ours.
	m.tables.VirtualServers, m.tables.RealServers = settled(c.VirtualServers()), settled(c.RealServers())
	return nil
}

func (m *cleanupTables) openSets(context.Context) error {
	c, err := ipset.Open(func(n state.SetName) bool { return plan.OurSet(n) || n.Temporary() })
	if err != nil {
		return m.tolerate(err, "this kernel has no sets, which say which virtual servers and addresses are ours: they stay")
	}
	m.closers = append(m.closers, c)
	m.tables.Sets, m.tables.Entries = c.Sets(), c.Entries()
	return nil
}

func (m *cleanupTables) openLink(ctx context.Context) error {
	c, err := link.Open()
	if err != nil {
		return err
	}
	m.closers = append(m.closers, c)
	m.tables.Links, m.tables.Addresses = c.Links(), c.Addresses()
	dummy, err := c.Index()
	if err == nil {
		m.local, err = c.Elsewhere(ctx, dummy)
	}
	return err
}

// openRules opens iptables. Without its tools, rules may be left, but everything else is still removed.
func (m *cleanupTables) openRules(ctx context.Context) error {
	old, err := linux.OldRules(ctx, ourChain)
	if err != nil {
		return err
	}
	c, err := iptables.Open(ctx, plan.OurChain, linux.Families()...)
	if errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err != nil && old == "" { // a node whose firewall is nftables needs no tools
		return nil
	}
	if err != nil {
		m.broken = fmt.Errorf("chains and jumps stay: %w", err)
		return nil
	}
	m.tables.Chains, m.tables.Jumps = c.Chains(), c.Jumps()
	return nil
}

// openTable adds our table of nftables to what is in iptables and ipset.
func (m *cleanupTables) openTable(context.Context) error {
	c, err := nftables.Open(linux.Families()...)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, c)
	m.tables = linux.WithTable(m.tables, c)
	return nil
}

func (m *cleanupTables) openFlows(context.Context) error {
	c, err := conntrack.Open()
	if err == nil {
		m.flows, m.closers = c, append(m.closers, c)
	}
	return err
}

// Close closes all connections.
func (m *cleanupTables) Close() error {
	var err error
	for _, c := range m.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Flush removes the conntrack entries of all flows.
func (m *cleanupTables) Flush(ctx context.Context, flows []state.Flow) (int, error) {
	return m.flows.Flush(ctx, flows)
}

// Connections returns the connections of the real servers of some virtual servers.
func (m *cleanupTables) Connections(ctx context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return m.servers.ConnectionsOf(ctx, servers)
}

// hide hides the chains and jumps that kube-proxy uses in some families.
func (m *cleanupTables) hide(families []state.Family) {
	m.tables.Chains, m.tables.Jumps = m.only(func(k state.ChainKey) bool {
		return !slices.Contains(families, k.Family) || !takeover.Shared(k)
	})
}

// showOnly hides the chains and jumps that the way back to kube-proxy does not change.
func (m *cleanupTables) showOnly(b takeover.Back) { m.tables.Chains, m.tables.Jumps = m.only(b.Speaks) }

// only returns the chains that match, and the jumps to them.
func (m *cleanupTables) only(match func(state.ChainKey) bool) (kernel.Store[state.ChainKey, state.Chain], kernel.Jumps) {
	return filtered[state.ChainKey, state.Chain]{m.tables.Chains, match},
		filtered[state.JumpKey, state.Jump]{m.tables.Jumps, func(k state.JumpKey) bool {
			return match(state.ChainKey{Family: k.Family, Table: k.Table, Name: k.To})
		}}
}

// filtered is a table without the rows that do not match.
type filtered[K, V comparable] struct {
	kernel.Store[K, V]
	match func(K) bool
}

func (f filtered[K, V]) List(ctx context.Context) (map[K]V, error) {
	rows, err := f.Store.List(ctx)
	rows = maps.Clone(rows)
	maps.DeleteFunc(rows, func(k K, _ V) bool { return !f.match(k) })
	return rows, err
}
