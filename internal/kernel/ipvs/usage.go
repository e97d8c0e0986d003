// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// RealServerUsage is what the kernel reports of a real server besides its row, and the thresholds, which
// RealServers does not list.
type RealServerUsage struct {
	Counters     state.Counters
	Connections  state.Connections
	Upper, Lower uint32
}

// Usage is what virtual and real servers have been used for.
type Usage struct {
	VirtualServers map[state.VirtualServerKey]state.Counters
	RealServers    map[state.RealServerKey]RealServerUsage
}

func connectionsOf(r seenRealServer) state.Connections { return r.connections }

func countersOf(v seenVirtualServer) state.Counters { return v.counters }

func usageOf(r seenRealServer) RealServerUsage {
	return RealServerUsage{Counters: r.counters, Connections: r.connections, Upper: r.server.Upper, Lower: r.server.Lower}
}

// Connections counts the connections of every real server, except the persistent ones, which are templates.
//
// A real server may be missing although it has connections: the kernel does not lock its table for a reader of
// /proc, so that a row can be missed while virtual servers are removed.
func (c *Conn) Connections(ctx context.Context) (map[state.RealServerKey]state.Connections, error) {
	connections, err := readRealServers(ctx, c, connectionsOf)
	if err != nil {
		return nil, fmt.Errorf("counting connections: %w", err)
	}
	return connections, nil
}

// ConnectionsOf counts the connections of the real servers of some virtual servers. It leaves out those that
// are gone.
func (c *Conn) ConnectionsOf(ctx context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	connections := map[state.RealServerKey]state.Connections{}
	for _, k := range servers {
		rows, err := dumpRealServers(ctx, c, k, connectionsOf)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("counting connections: %w", err)
		}
		maps.Copy(connections, rows)
	}
	return connections, nil
}

// Counters reads all counters. It costs a dump for every virtual server: it is for showing, not for watching.
func (c *Conn) Counters(ctx context.Context) (Usage, error) {
	servers, err := dumpVirtualServers(ctx, c, countersOf)
	if err != nil {
		return Usage{}, fmt.Errorf("reading counters: %w", err)
	}
	u := Usage{VirtualServers: servers, RealServers: map[state.RealServerKey]RealServerUsage{}}
	for k := range servers {
		rows, err := dumpRealServers(ctx, c, k, usageOf)
		if err != nil {
			return Usage{}, fmt.Errorf("reading counters: %w", err)
		}
		maps.Copy(u.RealServers, rows)
	}
	return u, nil
}

// Loads reads the load of every virtual server with one dump and one read of /proc. As in Connections, a real
// server may be missing in it.
func (c *Conn) Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error) {
	servers, err := dumpVirtualServers(ctx, c, countersOf)
	if err != nil {
		return nil, fmt.Errorf("reading counters: %w", err)
	}
	ctx = kernel.NewRound(ctx)
	c.dumpedIn(kernel.RoundOf(ctx), maps.Keys(servers))
	rows, err := c.Connections(ctx)
	if err != nil {
		return nil, err
	}
	loads := make(map[state.VirtualServerKey]state.Load, len(servers))
	for k, v := range servers {
		loads[k] = state.Load{Counters: v}
	}
	for k, r := range rows {
		if l, there := loads[k.Server]; there {
			l.Connections.Active += r.Active
			l.Connections.Inactive += r.Inactive
			loads[k.Server] = l
		}
	}
	return loads, nil
}
