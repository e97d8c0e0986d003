// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipset"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Kernel is what dump reads of the kernel, in the network namespace of the thread that opened it. One
// goroutine uses it, on that thread.
type Kernel struct {
	servers *ipvs.Conn
	sets    *ipset.Conn // nil if setsErr is not
	setsErr error
	link    *link.Conn // nil if linkErr is not
	linkErr error
}

// Open opens the kernel. It fails without IPVS, with the error of ipvs.Open. If the sets or network devices
// cannot be opened, State returns that error.
func Open() (*Kernel, error) {
	servers, err := ipvs.Open()
	if err != nil {
		return nil, err
	}
	k := &Kernel{servers: servers}
	k.sets, k.setsErr = ipset.Open(plan.OurSet)
	k.link, k.linkErr = link.Open()
	return k, nil
}

// Close closes all connections.
func (k *Kernel) Close() error {
	err := k.servers.Close()
	if k.sets != nil {
		err = errors.Join(err, k.sets.Close())
	}
	if k.link != nil {
		err = errors.Join(err, k.link.Close())
	}
	return err
}

// State reads the rows that dump shows with a virtual server. A table that cannot be read is nil and named in
// the error; the others are still returned.
func (k *Kernel) State(ctx context.Context) (s state.State, err error) {
	setsErr, linkErr := k.setsErr, k.linkErr
	err = errors.Join(
		kernel.List(ctx, "virtual servers", settledTable(k.servers.VirtualServers()), &s.VirtualServers),
		kernel.List(ctx, "real servers", settledTable(k.servers.RealServers()), &s.RealServers),
	)
	if setsErr == nil {
		setsErr = kernel.List(ctx, "set entries", k.sets.Entries(), &s.Entries)
	}
	if linkErr == nil {
		linkErr = kernel.List(ctx, "addresses", k.link.Addresses(), &s.Addresses)
	}
	return s, errors.Join(err, setsErr, linkErr)
}

// settled returns tables whose virtual and real servers are listed completely: see settledStore.
func settled(t kernel.Tables) kernel.Tables {
	t.VirtualServers, t.RealServers = settledTable(t.VirtualServers), settledTable(t.RealServers)
	return t
}

func settledTable[K, V comparable](s kernel.Store[K, V]) kernel.Store[K, V] {
	return settledStore[K, V]{s}
}

// settledStore lists its table until two lists are the same. The kernel returns virtual servers a few
// kilobytes at a time and continues by counting rows. While others come or go, even in another network
// namespace, a list may lack rows that did not change, without an error.
type settledStore[K, V comparable] struct{ kernel.Store[K, V] }

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

// Observe reads the connections, and everything else that the kernel counts if everything is true.
func (k *Kernel) Observe(ctx context.Context, everything bool) (render.Observed, error) {
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

// title is the first line of the kernel's own listing. ipvsadm makes its title from the same two numbers.
func title() (_ string, err error) {
	f, err := os.Open("/proc/thread-self/net/ip_vs")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := bufio.NewReader(f).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}
