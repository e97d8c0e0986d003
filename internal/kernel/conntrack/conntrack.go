// SPDX-License-Identifier: Apache-2.0

// Package conntrack removes connections from the kernel's connection tracking.
//
// It is an action and no table: what is tracked is the kernel's own business, except that a UDP client which
// keeps its port keeps its entry alive, and with it an endpoint that is gone. IPVS writes the endpoint it
// chose into the entry's reply direction, as long as net.ipv4.vs.conntrack is 1.
//
// IPVS has connections of its own, which are not touched here.
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

// Conn speaks to the connection tracking of the network namespace of the thread that opened it. It is used by
// one goroutine at a time.
type Conn struct {
	socket   *netlink.Socket
	question netlink.Requests // one dump
	deletes  netlink.Requests
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

// Flush deletes the entries of flows and returns how many it deleted. An entry counts as one of a flow if its
// first packet went to the flow's Service and its answers come from the flow's Endpoint. One of TCP or SCTP
// that went untranslated counts only as long as nobody has answered it.
//
// The kernel's table is walked once for each family and protocol in flows, and only entries of these leave
// the kernel; an entry is kept in memory only if it is to be deleted. So flows that are known together are
// best flushed together.
func (c *Conn) Flush(ctx context.Context, flows []state.Flow) (deleted int, err error) {
	var failed error
	for _, w := range walks(flows) {
		n, err := c.flush(ctx, w)
		deleted += n
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("flushing connections of %v: %w", w, err))
		}
	}
	return deleted, failed
}

func (c *Conn) flush(ctx context.Context, w walk) (int, error) {
	c.question.Reset()
	w.addDump(&c.question)
	err := c.socket.Dump(ctx, &c.question, func() func([]byte) error {
		c.deletes.Reset()
		return func(body []byte) error {
			e, err := parseEntry(body)
			if err == nil && w.holds(e) {
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

// count tells deleted entries from those that were gone by themselves, or that the dump held twice because
// the kernel's table grew meanwhile.
func count(refused []error, failed error) (deleted int, err error) {
	var unknown []error
	for _, refusal := range refused {
		switch {
		case refusal == nil:
			deleted++
		case errors.Is(refusal, fs.ErrNotExist):
		default:
			unknown = append(unknown, refusal)
		}
	}
	if len(unknown) > 0 {
		failed = errors.Join(failed, fmt.Errorf("deleting %d of %d connections: %w", len(unknown), len(refused), unknown[0]))
	}
	return deleted, failed
}
