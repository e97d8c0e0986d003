// SPDX-License-Identifier: Apache-2.0

// Package nftables is our table of nftables: its sets and their elements, its chains, and the jumps to them from base
// chains, by netlink. It runs no program.
//
// There is one table for each family, ip and ip6: a packet meets the rules of its own family alone, and a kernel without
// IPv6 needs nothing of it. What one Apply writes is one transaction, atomic for packets, or several of them where it is
// more than one message may hold. Many elements go into one request.
//
// Rows have the names of ipset and iptables, so the rest of the program reads one language. A set is named as ipset's.
// A chain of ours has its table of iptables in front, nat-KUBE-SERVICES; a base chain is nat-PREROUTING. A rule keeps
// its text beside its expressions, in its user data. When it is listed, the expressions have to be those of the text:
// otherwise the row shows what is there, and a diff repairs it.
//
// Package nft reads the tables of other programs, and removes those of kube-proxy.
package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn is a connection to our tables in a network namespace. One goroutine uses it and its stores at a time.
type Conn struct {
	socket   *netlink.Socket
	requests netlink.Requests
	table    string
	families []state.Family
	known    map[state.SetName]state.Set // headers, as they were read last
	counts   map[state.SetName]int       // of elements, as the kernel or the last dump says, and with what was written since
	listed   int                         // elements, last time

	round *kernel.Round // in which seen was read
	seen  *snapshot     // nil: something has been written since
}

// Open opens a connection to the current thread's network namespace.
func Open(families ...state.Family) (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: socket, table: state.NFTable, families: families, counts: map[state.SetName]int{}}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Traffic returns what the connection has sent so far.
func (c *Conn) Traffic() netlink.Traffic { return c.socket.Traffic() }

// Sets returns the table of our sets. Applying a set makes the table of its family.
func (c *Conn) Sets() kernel.Store[state.SetName, state.Set] { return sets{c} }

// Entries returns the table of the elements of our sets.
func (c *Conn) Entries() kernel.Store[state.SetEntry, state.Entry] { return entries{c} }

// Chains returns the table of our chains, but for base chains.
func (c *Conn) Chains() kernel.Store[state.ChainKey, state.Chain] { return chains{c} }

// Jumps returns the table of the jumps from base chains to our chains.
func (c *Conn) Jumps() kernel.Store[state.JumpKey, state.Jump] { return jumps{c} }

const (
	subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	header    = 4 // the size of struct nfgenmsg
)

// begin starts a request about our table of a family.
func (c *Conn) begin(kind, flags uint16, f state.Family) {
	c.requests.Begin(subsystem|kind, flags)
	c.requests.Raw(netlink.FamilyNumber(f), unix.NFNETLINK_V0, 0, 0)
}

// makeTable makes our table of a family if it is missing, and wakes it if another program has put it to sleep.
func (c *Conn) makeTable(f state.Family) {
	c.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, f)
	c.requests.String(unix.NFTA_TABLE_NAME, c.table)
	c.requests.BigUint32(unix.NFTA_TABLE_FLAGS, 0)
}

func (c *Conn) deleteTable(f state.Family) {
	c.begin(unix.NFT_MSG_DELTABLE, 0, f)
	c.requests.String(unix.NFTA_TABLE_NAME, c.table)
}

// transact does what write puts into the requests, all or nothing.
func (c *Conn) transact(ctx context.Context, write func()) error {
	return c.transactIf(ctx, func() error { write(); return nil })
}

// transactIf is transact, unless write fails.
func (c *Conn) transactIf(ctx context.Context, write func() error) error {
	c.requests.Reset()
	if err := write(); err != nil || c.requests.Len() == 0 {
		return err
	}
	return c.socket.Transaction(ctx, &c.requests, unix.NFNL_SUBSYS_NFTABLES)
}

// dump lists what a kind of request names in our tables of all families. take gets each answer.
func (c *Conn) dump(ctx context.Context, kind, tableAttribute uint16, start func() func(state.Family, netlink.Attributes) error) error {
	return c.dumpOf(ctx, kind, tableAttribute, unix.NFPROTO_UNSPEC, start)
}

// dumpOf is dump for one family, or for all. Rules are listed by family: a kernel that is asked for those of a table
// stops after the first table of that name.
func (c *Conn) dumpOf(ctx context.Context, kind, tableAttribute uint16, family uint8, start func() func(state.Family, netlink.Attributes) error) error {
	c.requests.Reset()
	c.requests.Begin(subsystem|kind, 0)
	c.requests.Raw(family, unix.NFNETLINK_V0, 0, 0)
	if family != unix.NFPROTO_UNSPEC {
		c.requests.String(tableAttribute, c.table)
	}
	err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
		take := start()
		return func(body []byte) error {
			a, err := netlink.ParseBody(body, header)
			if err != nil {
				return err
			}
			f := netlink.FamilyOf(uint16(body[0]))
			if f == 0 || a.Get(tableAttribute).String() != c.table {
				return nil
			}
			return take(f, a)
		}
	})
	if missing(err) {
		return nil
	}
	return err
}

// missing reports whether the kernel has no such table, or no nftables at all.
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// Try reports whether the kernel takes the rows of s: it makes them in a table of another name that the same
// transaction removes again.
func (c *Conn) Try(ctx context.Context, s state.State) error {
	trial := &Conn{socket: c.socket, table: c.table + "-trial", families: c.families} // has no elements
	err := trial.transactIf(ctx, func() error {
		for _, f := range c.families {
			trial.makeTable(f)
		}
		for _, n := range slices.Sorted(maps.Keys(s.Sets)) {
			trial.makeSet(n, s.Sets[n])
		}
		d := state.Diff(state.New(), s)
		w := rewriting{c: trial, headers: s.Sets}
		if err := w.requests(layoutOf(d.Chains, d.Jumps)); err != nil {
			return err
		}
		for _, f := range c.families {
			trial.deleteTable(f)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("trying our rules in nftables: %w", err)
	}
	return nil
}
