// SPDX-License-Identifier: Apache-2.0

// Package ipvs has the kernel's virtual and real servers as two Stores, their connections and counters, and
// the connection timeouts.
//
// talk.go speaks to the kernel. convert.go and parse.go are pure: rows to and from netlink attributes, and
// the text of /proc/net/ip_vs to rows. Only names come from moby/ipvs. Its calls write one row at a time,
// wait for ever if an answer is lost, log, and load modules by themselves.
package ipvs

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"

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

	// dumped are the virtual servers that were listed in a round: a list of real servers that follows in it
	// needs no dump.
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
		absent:  virtualServerAbsent,
		explain: explainVirtualServer,
		list:    c.listVirtualServers,
	}
}

// RealServers returns the table of real servers. Its List reads mostly /proc, which does not show the
// thresholds: they are 0 in every row, as they are in ours.
func (c *Conn) RealServers() kernel.Store[state.RealServerKey, state.RealServer] {
	return table[state.RealServerKey, state.RealServer]{
		conn:    c,
		noun:    "real server",
		encode:  encodeRealServer,
		absent:  realServerAbsent,
		explain: explainRealServer,
		list:    c.listRealServers,
	}
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

func (c *Conn) listRealServers(ctx context.Context) (map[state.RealServerKey]state.RealServer, error) {
	return readRealServers(ctx, c, func(r seenRealServer) state.RealServer { return r.server })
}
