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

// Kernel is the kernel in the network namespace of the thread that opened it.
// It is used by one goroutine, on that thread.
type Kernel struct {
	servers *ipvs.Conn
	sets    *ipset.Conn // nil if setsErr is not
	setsErr error
	link    *link.Conn // nil if linkErr is not
	linkErr error
}

// Open opens the kernel. Without IPVS there is none: the error wraps what
// ipvs.Open's does. Without ipset or the network devices there is, and State
// says what is missing.
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

// State reads the rows that a virtual server is shown with. A table that can't
// be read is nil and named in the error; the others are still returned.
func (k *Kernel) State(ctx context.Context) (state.State, error) {
	var s state.State
	err := errors.Join(
		settled(ctx, state.VirtualServers, k.servers.VirtualServers(), &s.VirtualServers),
		settled(ctx, state.RealServers, k.servers.RealServers(), &s.RealServers),
		k.readSets(ctx, &s),
		k.readAddresses(ctx, &s),
	)
	return s, err
}

func (k *Kernel) readSets(ctx context.Context, s *state.State) error {
	if k.setsErr != nil {
		return k.setsErr
	}
	return kernel.List(ctx, state.Entries, k.sets.Entries(), &s.Entries)
}

func (k *Kernel) readAddresses(ctx context.Context, s *state.State) error {
	if k.linkErr != nil {
		return k.linkErr
	}
	return kernel.List(ctx, state.Addresses, k.link.Addresses(), &s.Addresses)
}

// attempts is how often a table that goes on changing is listed.
const attempts = 5

// settled lists a table until two lists are the same. The kernel hands out its
// virtual servers a few kilobytes at a time and finds its place again by
// counting: while others are added or removed, even in another network
// namespace, rows that nobody touched can be missing, and nothing tells so.
func settled[K, V comparable](ctx context.Context, t state.Table, s kernel.Store[K, V], into *map[K]V) error {
	if err := kernel.List(ctx, t, s, into); err != nil {
		return err
	}
	for range attempts - 1 {
		before := *into
		if err := kernel.List(ctx, t, s, into); err != nil || maps.Equal(before, *into) {
			return err
		}
	}
	return nil // busy, but as good as any other list
}

// Observe reads the connections, and everything else the kernel counts if it is
// wanted.
func (k *Kernel) Observe(ctx context.Context, everything bool) (render.Observed, error) {
	title, err := title()
	if err != nil {
		return render.Observed{}, err
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

// title is the first line of the kernel's own listing, which ipvsadm makes
// from the same two numbers.
func title() (_ string, err error) {
	f, err := os.Open("/proc/thread-self/net/ip_vs")
	if err != nil {
		return "", fmt.Errorf("reading the version of IPVS: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("reading the version of IPVS: %w", err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}
