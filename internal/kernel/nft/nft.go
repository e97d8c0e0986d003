// SPDX-License-Identifier: Apache-2.0

// Package nft reads the rules of nftables, and removes whole tables of it by name. We have no rules in nftables; a
// service proxy that was here before us may have.
//
// In the table of chains, a table of nftables is a row beside the chains of iptables: rules that packets meet. Deleting
// one is atomic for packets.
package nft

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn is a connection to the nftables of a network namespace. One goroutine uses it at a time.
type Conn struct {
	socket   *netlink.Socket
	requests netlink.Requests
	names    []string
}

// Open opens a connection to the current thread's network namespace. Only tables with these names are rows.
func Open(names ...string) (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: socket, names: names}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.socket.Close() }

type table struct {
	family uint8
	name   string
}

// tables returns those with one of our names, of any family. A kernel without nftables has none.
func (c *Conn) tables(ctx context.Context) ([]table, error) {
	c.requests.Reset()
	begin(&c.requests, unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC)
	found, err := netlink.DumpList(ctx, c.socket, &c.requests, func(body []byte) (table, bool, error) {
		t, err := parseTable(body)
		return t, slices.Contains(c.names, t.name), err
	})
	if err != nil && !isUnsupported(err) {
		return nil, fmt.Errorf("listing nftables tables: %w", err)
	}
	return found, nil
}

// isUnsupported knows the answers of a kernel without nftables.
func isUnsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

func (c *Conn) remove(ctx context.Context, t table) (met bool, err error) {
	c.requests.Reset()
	deleteTable(&c.requests, t)
	err = c.socket.Transaction(ctx, &c.requests, unix.NFNL_SUBSYS_NFTABLES)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, err
}

// Beside returns the table of chains with the tables of nftables in it.
func (c *Conn) Beside(chains Chains) Chains { return joined{chains, c} }

// Chains is the table of chains.
type Chains = kernel.Store[state.ChainKey, state.Chain]

type (
	chainDelta  = diff.Delta[state.ChainKey, state.Chain]
	chainResult = kernel.Result[state.ChainKey]
)

type joined struct {
	Chains
	c *Conn
}

var _ kernel.Coupled = joined{}

// List returns the rows of both.
func (j joined) List(ctx context.Context) (map[state.ChainKey]state.Chain, error) {
	rows, err := j.Chains.List(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := j.c.tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if f := netlink.FamilyOf(uint16(t.family)); f != 0 {
			rows[state.ChainKey{Family: f, Table: state.NFTables, Name: t.name}] = state.Chain{}
		}
	}
	return rows, nil
}

// Apply makes the changes of d. A table of nftables can only be removed.
func (j joined) Apply(ctx context.Context, d chainDelta) chainResult {
	tables, chains := kernel.Split(d, func(k state.ChainKey, _ state.Chain) bool { return k.Table == state.NFTables })
	var r chainResult
	if chains.Len() > 0 {
		r = j.Chains.Apply(ctx, chains)
	}
	for _, row := range tables.Remove {
		met, err := j.c.remove(ctx, table{netlink.FamilyNumber(row.Key.Family), row.Key.Name})
		if err != nil {
			r.Fail(row.Key, fmt.Errorf("removing nftables table %s of %v: %w", row.Key.Name, row.Key.Family, err))
		} else if !met {
			r.Drift++
		}
	}
	for _, row := range tables.Add {
		r.Fail(row.Key, errNotMade)
	}
	for _, c := range tables.Update {
		r.Fail(c.Key, errNotMade)
	}
	return r
}

var errNotMade = errors.New("tables of nftables are only removed, never made")

// SetWith sets chains and jumps together if the chains' own table can.
func (j joined) SetWith(
	ctx context.Context, d chainDelta, jumps kernel.Jumps, e diff.Delta[state.JumpKey, state.Jump],
) (kernel.Rules, bool) {
	if together, ok := j.Chains.(kernel.Coupled); ok {
		return together.SetWith(ctx, d, jumps, e)
	}
	return kernel.Rules{}, false
}
