// SPDX-License-Identifier: Apache-2.0

// Package conntrack removes connections from the kernel's connection tracking.
//
// A UDP client that keeps its port keeps its entry alive, and with it an endpoint that is gone. IPVS writes the
// endpoint it chose into the entry's reply direction, as long as net.ipv4.vs.conntrack is 1. IPVS has connections of
// its own, which are not touched here.
package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn is a connection to the connection tracking of a network namespace. One goroutine uses it at a time.
type Conn struct {
	socket  *netlink.Socket
	dump    netlink.Requests // one request
	deletes netlink.Requests
}

// Open opens a connection to the current thread's network namespace.
func Open() (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: socket}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Flush deletes the entries of flows and returns how many it deleted. An entry belongs to a flow if its first packet
// went to the flow's Service and its answers come from the flow's Endpoint. One of TCP or SCTP that went untranslated
// belongs to it only as long as it has no answer.
//
// The kernel's table is dumped once for each family and protocol in flows, so flows that are known together are best
// flushed together. An entry is kept in memory only if it is to be deleted.
func (c *Conn) Flush(ctx context.Context, flows []state.Flow) (deleted int, err error) {
	var failed error
	for _, p := range passes(flows) {
		n, err := c.flush(ctx, p)
		deleted += n
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("flushing connections of %v: %w", p, err))
		}
	}
	return deleted, failed
}

func (c *Conn) flush(ctx context.Context, p pass) (int, error) {
	c.dump.Reset()
	p.addDump(&c.dump)
	err := c.socket.Dump(ctx, &c.dump, func() func([]byte) error {
		c.deletes.Reset()
		return func(body []byte) error {
			e, err := parseEntry(body)
			if err == nil && p.matches(e) {
				e.addDelete(&c.deletes)
			}
			return err
		}
	})
	if err != nil {
		return 0, fmt.Errorf("listing connections: %w", err)
	}
	refused, err := c.socket.Do(ctx, &c.deletes)
	return count(refused, err)
}

// count returns how many entries were deleted. Some may be gone already, or twice in a dump of a growing table.
func count(refused []error, failed error) (deleted int, err error) {
	var unknown []error
	for _, refusal := range refused {
		switch {
		case refusal == nil:
			deleted++
		case !errors.Is(refusal, fs.ErrNotExist):
			unknown = append(unknown, refusal)
		}
	}
	if len(unknown) > 0 {
		failed = errors.Join(failed, fmt.Errorf("deleting %d of %d connections: %w", len(unknown), len(refused), unknown[0]))
	}
	return deleted, failed
}
