// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// parts are those of the kernel's tables that there are. The daemon needs all of
// them; to remove what is in some, the others need not be there.
type parts struct {
	tables  kernel.Tables
	local   []netip.Addr
	missing []string // in sentences
	broken  error    // what should be there and is not
	servers *ipvs.Conn
	flows   *conntrack.Conn
	closers []io.Closer
}

// openParts opens what there is. What the kernel lacks holds nothing of ours.
func openParts(ctx context.Context) (m *parts, err error) {
	m = &parts{tables: kernel.Absent(errors.ErrUnsupported)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, open := range []func(context.Context) error{m.openServers, m.openSets, m.openLink, m.openRules, m.openFlows} {
		if err := open(ctx); err != nil {
			return m, err
		}
	}
	return m, nil
}

// lacks says whether an error means that the kernel has no such thing.
func lacks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

func (m *parts) openServers(context.Context) error {
	c, err := ipvs.Open()
	if lacks(err) {
		m.missing = append(m.missing, "this kernel has no IPVS, and so no virtual servers")
		return nil
	}
	if err != nil {
		return err
	}
	m.servers, m.closers = c, append(m.closers, c)
	m.tables.VirtualServers = steady[state.VirtualServerKey, state.VirtualServer]{c.VirtualServers(), state.VirtualServers}
	m.tables.RealServers = steady[state.RealServerKey, state.RealServer]{c.RealServers(), state.RealServers}
	return nil
}

func (m *parts) openSets(context.Context) error {
	c, err := ipset.Open(func(n state.SetName) bool { return plan.OurSet(n) || n.Temporary() })
	if lacks(err) {
		m.missing = append(m.missing, "this kernel has no sets, and so nothing that says which virtual servers and addresses are ours: they stay")
		return nil
	}
	if err != nil {
		return err
	}
	m.closers = append(m.closers, c)
	m.tables.Sets, m.tables.Entries = c.Sets(), c.Entries()
	return nil
}

func (m *parts) openLink(ctx context.Context) error {
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

// openRules opens the tools of iptables. A machine without them may still have
// rules, so that this is an error, but one that keeps nothing else from going.
func (m *parts) openRules(ctx context.Context) error {
	c, err := iptables.Open(ctx, plan.OurChain, linux.Families()...)
	if errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err != nil {
		m.broken = fmt.Errorf("chains and jumps stay: %w", err)
		return nil
	}
	m.tables.Chains, m.tables.Jumps = c.Chains(), c.Jumps()
	return nil
}

func (m *parts) openFlows(context.Context) error {
	c, err := conntrack.Open()
	if err == nil {
		m.flows, m.closers = c, append(m.closers, c)
	}
	return err
}

// Close closes all connections.
func (m *parts) Close() error {
	var err error
	for _, c := range m.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Flush removes the conntrack entries of all flows.
func (m *parts) Flush(ctx context.Context, flows []state.Flow) (int, error) {
	return m.flows.Flush(ctx, flows)
}

// Connections returns those of the real servers of some virtual servers.
func (m *parts) Connections(ctx context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return m.servers.ConnectionsOf(ctx, servers)
}

// hide leaves the chains and jumps alone that are kube-proxy's in some families.
func (m *parts) hide(families []state.Family) {
	m.tables.Chains, m.tables.Jumps = m.only(func(k state.ChainKey) bool {
		return !slices.Contains(families, k.Family) || !takeover.Shared(k)
	})
}

// leave leaves all chains and jumps alone that the way back does not speak of.
func (m *parts) leave(b takeover.Back) { m.tables.Chains, m.tables.Jumps = m.only(b.Speaks) }

// mangle is a kernel that has nothing else.
func (m *parts) mangle() kernel.Tables {
	t := kernel.Absent(errors.ErrUnsupported)
	t.Chains, t.Jumps = m.only(inMangle)
	return t
}

func inMangle(k state.ChainKey) bool { return k.Table == state.Mangle }

func (m *parts) only(are func(state.ChainKey) bool) (kernel.Store[state.ChainKey, state.Chain], kernel.Jumps) {
	return some[state.ChainKey, state.Chain]{m.tables.Chains, are},
		some[state.JumpKey, state.Jump]{m.tables.Jumps, func(k state.JumpKey) bool {
			return are(state.ChainKey{Family: k.Family, Table: k.Table, Name: k.To})
		}}
}

// some is a table of which only some rows are seen.
type some[K, V comparable] struct {
	kernel.Store[K, V]
	seen func(K) bool
}

func (s some[K, V]) List(ctx context.Context) (map[K]V, error) {
	all, err := s.Store.List(ctx)
	rows := make(map[K]V, len(all))
	for k, v := range all {
		if s.seen(k) {
			rows[k] = v
		}
	}
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// steady is a table that is listed until two lists are the same: what a list
// misses would stay, and what proves that it is ours would not.
type steady[K, V comparable] struct {
	kernel.Store[K, V]
	table state.Table
}

func (s steady[K, V]) List(ctx context.Context) (map[K]V, error) {
	var rows map[K]V
	err := settled(ctx, s.table, s.Store, &rows)
	return rows, err
}
