// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipset"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ReadNode reads all tables of the kernel in the network namespace of the calling thread, and the addresses of the
// node's other devices. A table that cannot be read is nil and named in the error.
func ReadNode(ctx context.Context) (state.State, []netip.Addr, error) {
	n, err := readKernel(ctx, readNode)
	return n.state, n.addresses, err
}

// ReadRules reads all rules in the network namespace of the calling thread.
func ReadRules(ctx context.Context) (state.Ruleset, error) {
	return readKernel(ctx, func(ctx context.Context, k *linux.Kernel) (state.Ruleset, error) { return k.Ruleset(ctx) })
}

// readKernel opens the kernel for a command that only reads it, and closes it again.
func readKernel[T any](ctx context.Context, read func(context.Context, *linux.Kernel) (T, error)) (got T, err error) {
	c := config.Default()
	if _, err := openLog(c.Log, &libraryLogs{}); err != nil {
		return got, err
	}
	c.Families = linux.Families()
	if c.Firewall, err = linux.InUse(ctx); err != nil {
		return got, err
	}
	k, err := linux.Open(ctx, ours(c))
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	return read(ctx, k)
}

// nodeRows is what ReadNode returns.
type nodeRows struct {
	state     state.State
	addresses []netip.Addr
}

func readNode(ctx context.Context, k *linux.Kernel) (n nodeRows, err error) {
	tables := k.Tables()
	tables.VirtualServers, tables.RealServers = settled(tables.VirtualServers), settled(tables.RealServers)
	n.state, err = tables.List(ctx)
	dummy, failed := k.Link.Index()
	if failed == nil {
		n.addresses, failed = k.Link.Elsewhere(ctx, dummy)
	}
	slices.SortFunc(n.addresses, netip.Addr.Compare)
	n.addresses = slices.Compact(n.addresses)
	return n, errors.Join(err, failed)
}

// dumpKernel is the kernel in the network namespace of the thread that opened it. One goroutine uses it there.
type dumpKernel struct {
	servers *ipvs.Conn
	sets    *ipset.Conn // nil if setsErr is not
	table   *nftables.Conn
	setsErr error
	link    *link.Conn // nil if linkErr is not
	linkErr error
}

// Open opens the kernel for dump. Without sets or network devices, only State returns an error.
func Open() (cli.Kernel, error) {
	servers, err := ipvs.Open()
	if err != nil {
		return nil, err
	}
	k := &dumpKernel{servers: servers}
	if k.table, err = nftables.Open(linux.Families()...); err != nil {
		return nil, errors.Join(err, servers.Close())
	}
	k.sets, k.setsErr = ipset.Open(plan.OurSet)
	k.link, k.linkErr = link.Open()
	return k, nil
}

// Close closes all connections.
func (k *dumpKernel) Close() error {
	err := errors.Join(k.servers.Close(), k.table.Close())
	if k.sets != nil {
		err = errors.Join(err, k.sets.Close())
	}
	if k.link != nil {
		err = errors.Join(err, k.link.Close())
	}
	return err
}

// State implements cli.Kernel.
func (k *dumpKernel) State(ctx context.Context) (s state.State, err error) {
	setsErr, linkErr := k.setsErr, k.linkErr
	err = errors.Join(
		kernel.List(ctx, state.VirtualServers, settled(k.servers.VirtualServers()), &s.VirtualServers),
		kernel.List(ctx, state.RealServers, settled(k.servers.RealServers()), &s.RealServers),
	)
	if err := kernel.List(ctx, state.Entries, k.entries(), &s.Entries); err != nil {
		setsErr = err
	} else if len(s.Entries) > 0 {
		setsErr = nil // those of a kernel without ipset are in nftables
	}
	if linkErr == nil {
		linkErr = kernel.List(ctx, state.Addresses, k.link.Addresses(), &s.Addresses)
	}
	return s, errors.Join(err, setsErr, linkErr)
}

// entries is the table of the entries of both firewalls.
func (k *dumpKernel) entries() kernel.Store[state.SetEntry, state.Entry] {
	parts := kernel.Parts[state.SetEntry, state.Entry]{NFTables: k.table.Entries()}
	if k.sets != nil {
		parts.IPTables = k.sets.Entries()
	}
	return kernel.Routed(parts, func(e state.SetEntry) state.Firewall { return e.Set.Firewall() })
}

// settledStore lists its table until two lists are the same. The kernel lists virtual servers in parts and continues by
// counting rows. While others come or go, even in another network namespace, it may skip some.
type settledStore[K, V comparable] struct{ kernel.Store[K, V] }

func settled[K, V comparable](s kernel.Store[K, V]) kernel.Store[K, V] { return settledStore[K, V]{s} }

func (s settledStore[K, V]) List(ctx context.Context) (rows map[K]V, err error) {
	const attempts = 5 // after these, the table is busy, and any list is as good as the next
	for range attempts {
		before := rows
		if rows, err = s.Store.List(ctx); err != nil || before != nil && maps.Equal(before, rows) {
			break
		}
	}
	return rows, err
}

// Observe implements cli.Kernel.
func (k *dumpKernel) Observe(ctx context.Context, everything bool) (render.Observed, error) {
	title, err := title()
	if err != nil {
		return render.Observed{}, fmt.Errorf("reading the version of IPVS: %w", err)
	}
	seen := render.Observed{Title: title}
	if !everything {
		seen.Connections, err = k.servers.Connections(ctx)
		return seen, err
	}
	u, err := k.servers.Counters(ctx)
	if err != nil {
		return seen, err
	}
	seen.VirtualServers = u.VirtualServers
	seen.RealServers = make(map[state.RealServerKey]state.Counters, len(u.RealServers))
	seen.Connections = make(map[state.RealServerKey]state.Connections, len(u.RealServers))
	seen.Limits = make(map[state.RealServerKey]render.Limits, len(u.RealServers))
	for key, r := range u.RealServers {
		seen.RealServers[key] = r.Counters
		seen.Connections[key] = r.Connections
		seen.Limits[key] = render.Limits{Upper: r.Upper, Lower: r.Lower}
	}
	return seen, nil
}

// title returns the first line of the kernel's own listing, which is like ipvsadm's.
func title() (_ string, err error) {
	f, err := os.Open("/proc/thread-self/net/ip_vs")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := bufio.NewReader(f).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}
