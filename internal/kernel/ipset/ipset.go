// SPDX-License-Identifier: Apache-2.0

// Package ipset is the kernel's ipsets: the headers of sets and their entries, many in one system call.
//
// A set whose header differs from the desired one is replaced: a temporary set gets the desired header and all entries,
// the two swap names, and the old one is destroyed. For packets and for rules that name the set that is atomic. A crash
// can leave the temporary set behind. It is listed, and only a removal or the next replacement of the same set touches
// it.
//
// What state.Set can't express, such as a timeout or a range of ports, is listed as part of the type ("bitmap:port
// range 0-1023"), and nomatch in front of an entry's comment, so that a diff finds and repairs it.
//
// ipset has no prefix of length 0: "all sources" needs two entries of half the addresses each.
package ipset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn is a connection to the ipsets of a network namespace. One goroutine uses it and its stores at a time.
type Conn struct {
	socket    *netlink.Socket
	requests  requests
	ours      func(state.SetName) bool
	revisions map[state.Set]uint8 // by type and family
	listed    int                 // entries, last time
}

// Open opens a connection to the current thread's network namespace. names reports which sets are ours.
func Open(names func(state.SetName) bool) (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	c := &Conn{socket: socket, ours: names, revisions: map[state.Set]uint8{}}
	if err := c.negotiate(); err != nil {
		return nil, errors.Join(fmt.Errorf("asking the kernel for its ipset (module ip_set): %w", err), socket.Close())
	}
	return c, nil
}

func (c *Conn) negotiate() error {
	c.requests.protocol = oldestProtocol
	c.fresh().begin(commandProtocol, 0)
	var oldest, newest uint8
	err := c.ask(context.Background(), func(body []byte) (err error) {
		oldest, newest, err = parseProtocol(body)
		return err
	})
	if err != nil {
		return err
	}
	if newest < oldestProtocol || oldest > newestProtocol {
		return fmt.Errorf("it speaks protocol %d to %d, kube-ipvs %d to %d", oldest, newest, oldestProtocol, newestProtocol)
	}
	c.requests.protocol = min(newest, newestProtocol)
	return nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Traffic returns what the connection has sent so far.
func (c *Conn) Traffic() netlink.Traffic { return c.socket.Traffic() }

// Sets returns the table of the headers of all sets, ours or not, of any type.
func (c *Conn) Sets() kernel.Store[state.SetName, state.Set] { return sets{c} }

// Entries returns the table of the entries of our sets. A set of ours with a type that we do not make shows no entries:
// its header has to be repaired first.
func (c *Conn) Entries() kernel.Store[state.SetEntry, state.Entry] { return entries{c} }

func (c *Conn) fresh() *requests {
	c.requests.Reset()
	return &c.requests
}

// ask sends the one request in c.requests; each, which may be nil, gets the answers.
func (c *Conn) ask(ctx context.Context, each func(body []byte) error) error {
	return explain(c.socket.Ask(ctx, &c.requests.Requests, each), false)
}

// headers reads the header of one set, or of all with an empty name.
func (c *Conn) headers(ctx context.Context, name state.SetName) (map[state.SetName]state.Set, error) {
	c.fresh().listHeaders(name)
	var rows map[state.SetName]state.Set
	err := c.socket.Dump(ctx, &c.requests.Requests, func() func([]byte) error {
		rows = map[state.SetName]state.Set{}
		return func(body []byte) error {
			p, err := parsePart(body)
			if err == nil && p.header == nil {
				err = fmt.Errorf("set %s came without a header", p.name)
			}
			if err == nil {
				rows[p.name] = *p.header
			}
			return err
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing sets: %w", explain(err, false))
	}
	return rows, nil
}

// addMembers reads the entries of a set of a known type into rows of several. It adds nothing if it fails.
func (c *Conn) addMembers(ctx context.Context, name state.SetName, rows map[state.SetEntry]state.Entry) error {
	c.fresh().beginSet(commandList, 0, name)
	others := len(rows)
	reset := func() {
		if len(rows) > others {
			maps.DeleteFunc(rows, func(e state.SetEntry, _ state.Entry) bool { return e.Set == name })
		}
	}
	err := c.socket.Dump(ctx, &c.requests.Requests, func() func([]byte) error {
		reset()
		var kind state.SetType
		return func(body []byte) error {
			p, err := parsePart(body)
			if err != nil {
				return err
			}
			if p.header != nil {
				kind = plain(p.header.Type)
			}
			return p.decode(kind, rows)
		}
	})
	if err != nil {
		reset()
	}
	return explain(err, false)
}

func (c *Conn) revision(ctx context.Context, s state.Set) (uint8, error) {
	key := state.Set{Type: s.Type, Family: s.Family}
	if r, ok := c.revisions[key]; ok {
		return r, nil
	}
	c.fresh().askType(s.Type, s.Family)
	var newest uint8
	err := c.ask(ctx, func(body []byte) (err error) {
		newest, err = parseRevision(body)
		return err
	})
	if err != nil {
		module := "ip_set_" + strings.NewReplacer(":", "_", ",", "").Replace(string(s.Type))
		return 0, fmt.Errorf("asking the kernel for set type %s (module %s): %w", s.Type, module, err)
	}
	c.revisions[key] = newest
	return newest, nil
}

// explain adds words to ipset's own error numbers. From errHashFull on they depend on the type of the set.
func explain(refusal error, bitmap bool) error {
	number, ok := errors.AsType[unix.Errno](refusal)
	if !ok {
		return refusal
	}
	words := refusals()[number]
	if number >= errHashFull && bitmap {
		words = ""
		if number == errBitmapRange {
			words = "the port is outside the set's range"
		}
	}
	if words == "" {
		return refusal
	}
	return fmt.Errorf("%s (%w)", words, refusal)
}

func refusals() map[unix.Errno]string {
	return map[unix.Errno]string{
		unix.ENOENT:     "the set does not exist",
		errProtocol:     "the set's type or IP family does not take such a request",
		errFindType:     "the kernel has no such set type",
		errMaxSets:      "the kernel can't hold more sets",
		errBusy:         "the set is in use by an iptables rule or another set",
		errReferenced:   "the set is in use by an iptables rule or another set",
		errTypeMismatch: "sets of different types can't be swapped",
		errExist:        "the entry exists already or is missing",
		errInvalidCIDR:  "the prefix length is not one that ipset can hold (it has no /0)",
		errFamily:       "the IP family is not that of the set",
		errIPv4:         "the set takes an IPv4 address",
		errIPv6:         "the set takes an IPv6 address",
		errComment:      "the set's entries carry no comments",
		errHashFull:     "the set is full",
		errHashElement:  "the set can't hold the zero address",
		errHashProto:    "the set can't hold the protocol",
		errHashNoProto:  "the set can't hold the protocol",
	}
}
