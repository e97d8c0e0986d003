// SPDX-License-Identifier: Apache-2.0

// Package ipvs has the kernel's virtual and real servers as Stores, their usage, and the connection timeouts.
//
// talk.go speaks to the kernel. convert.go and parse.go are pure: rows to and from netlink attributes, and the text of
// /proc/net/ip_vs to rows. Only names come from moby/ipvs. Its calls write one row at a time, wait for ever if an
// answer is lost, log, and load modules by themselves.
package ipvs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn is a connection to the IPVS of a network namespace. One goroutine uses it at a time.
type Conn struct {
	socket   *netlink.Socket
	family   uint16   // the netlink type of IPVS messages
	listing  *os.File // /proc/net/ip_vs, which belongs to the namespace it was opened in
	requests netlink.Requests
	room     room // for what was listed last

	// dumped are the virtual servers of a list in a round, so that a list of real servers in it needs no dump.
	round  *kernel.Round
	dumped map[state.VirtualServerKey]struct{}
}

// Traffic returns what has been sent to the kernel so far, without reads of /proc.
func (c *Conn) Traffic() netlink.Traffic { return c.socket.Traffic() }

// Close closes c.
func (c *Conn) Close() error {
	return errors.Join(c.socket.Close(), c.listing.Close())
}

// VirtualServers returns the table of virtual servers.
func (c *Conn) VirtualServers() kernel.Store[state.VirtualServerKey, state.VirtualServer] {
	return table[state.VirtualServerKey, state.VirtualServer]{
		conn:    c,
		noun:    "virtual server",
		encode:  encodeVirtualServer,
		absent:  func(_ verb, e unix.Errno) bool { return e == unix.ESRCH }, // ENOENT would mean the scheduler
		explain: explainVirtualServer,
		list:    c.listVirtualServers,
	}
}

// RealServers returns the table of real servers. Its List does not know the thresholds: they are 0, as in ours.
func (c *Conn) RealServers() kernel.Store[state.RealServerKey, state.RealServer] {
	return realServers{table[state.RealServerKey, state.RealServer]{
		conn:   c,
		noun:   "real server",
		encode: encodeRealServer,
		// ESRCH means the virtual server, without which a real server can be removed but not updated.
		absent:  func(v verb, e unix.Errno) bool { return e == unix.ENOENT || v == remove && e == unix.ESRCH },
		explain: explainRealServer,
		list: func(ctx context.Context) (map[state.RealServerKey]state.RealServer, error) {
			return realServerRows(ctx, c, func(r seenRealServer) state.RealServer { return r.server })
		},
	}}
}

// realServers is a kernel.Packs.
type realServers struct {
	table[state.RealServerKey, state.RealServer]
}

// ListPacked lists as List does.
func (t realServers) ListPacked(ctx context.Context) (packed state.Packed, err error) {
	err = t.conn.readRealServers(ctx, func() keeper {
		packed = make(state.Packed, t.conn.room.servers)
		return func(k state.VirtualServerKey, section []listedRealServer) error { return pack(packed, k, section) }
	})
	if err != nil {
		return nil, err
	}
	return packed, nil
}

func (c *Conn) listVirtualServers(ctx context.Context) (map[state.VirtualServerKey]state.VirtualServer, error) {
	rows, err := dumpVirtualServers(ctx, c, func(v seenVirtualServer) state.VirtualServer { return v.server })
	if err != nil {
		return nil, err
	}
	c.dumpedIn(kernel.RoundOf(ctx), maps.Keys(rows))
	return rows, nil
}

// dumpedIn remembers the virtual servers of a round.
func (c *Conn) dumpedIn(round *kernel.Round, keys iter.Seq[state.VirtualServerKey]) {
	if c.round, c.dumped = round, nil; round == nil {
		return
	}
	c.dumped = map[state.VirtualServerKey]struct{}{}
	for k := range keys {
		c.dumped[k] = struct{}{}
	}
}

// takeVirtualServers returns those that this round has just dumped, once, or dumps them.
func (c *Conn) takeVirtualServers(ctx context.Context) (map[state.VirtualServerKey]struct{}, error) {
	round, dumped := c.round, c.dumped
	c.round, c.dumped = nil, nil
	if round != nil && round == kernel.RoundOf(ctx) {
		return dumped, nil
	}
	return dumpVirtualServers(ctx, c, func(seenVirtualServer) struct{} { return struct{}{} })
}

// RealServerUsage is what the kernel reports of a real server besides its row, and the thresholds.
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

// Connections counts the connections of every real server, except the persistent ones, which are templates.
//
// A real server may be missing although it has connections: the kernel does not lock its table for a reader of /proc,
// so that a row can be missed while virtual servers are removed.
func (c *Conn) Connections(ctx context.Context) (map[state.RealServerKey]state.Connections, error) {
	connections, err := realServerRows(ctx, c, connectionsOf)
	if err != nil {
		return nil, fmt.Errorf("counting connections: %w", err)
	}
	return connections, nil
}

// ConnectionsOf counts the connections of the real servers of those servers that are there.
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
		rows, err := dumpRealServers(ctx, c, k, func(r seenRealServer) RealServerUsage {
			return RealServerUsage{Counters: r.counters, Connections: r.connections, Upper: r.server.Upper, Lower: r.server.Lower}
		})
		if err != nil {
			return Usage{}, fmt.Errorf("reading counters: %w", err)
		}
		maps.Copy(u.RealServers, rows)
	}
	return u, nil
}

// Loads reads the load of every virtual server with one dump, and one read of /proc as in Connections.
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
