// SPDX-License-Identifier: Apache-2.0

// Package ipset is the kernel's ipsets: the headers of sets and their entries, many in one system call.
//
// Three things about it are worth knowing:
//
// A set whose header is not as wished is replaced: a set with a temporary name gets the wished header and all
// entries, the two swap names, and the old one is destroyed. For packets that is atomic, and rules that name
// the set go on as before. A crash in between can leave the temporary set behind. The list of sets shows it;
// its name is a Temporary one, and nothing but a removal or the next replacement of the same set touches it.
//
// What state.Set can't express, such as a timeout or a range of ports, shows behind the type ("bitmap:port
// range 0-1023"), and nomatch in front of an entry's comment: such a row equals no wish, so a diff finds and
// repairs it.
//
// ipset has no prefix of length 0: "all sources" needs two entries of half the addresses each. An entry of /0
// is refused.
//
// What belongs into which set is somebody else's knowledge.
package ipset

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn speaks to ipset in the network namespace of the thread that opened it. It and its stores are used by
// one goroutine at a time.
type Conn struct {
	socket    *netlink.Socket
	requests  requests
	ours      func(state.SetName) bool
	revisions map[revisionKey]uint8
	listed    int // entries, last time
}

type revisionKey struct {
	kind   state.SetType
	family state.Family
}

// Open opens a connection to the current thread's network namespace. names says which sets are ours: only
// their entries are ever listed.
func Open(names func(state.SetName) bool) (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	c := &Conn{socket: socket, ours: names, revisions: map[revisionKey]uint8{}}
	if err := c.negotiate(); err != nil {
		return nil, errors.Join(fmt.Errorf("asking the kernel for its ipset (module ip_set): %w", err), socket.Close())
	}
	return c, nil
}

// negotiate finds the newest protocol that the kernel and this package speak.
func (c *Conn) negotiate() error {
	c.requests.protocol = oldestProtocol
	c.requests.Reset()
	c.requests.begin(commandProtocol, 0)
	var oldest, newest uint8
	err := c.socket.Ask(context.Background(), &c.requests.Requests, func(body []byte) (err error) {
		oldest, newest, err = parseProtocol(body)
		return err
	})
	if err != nil {
		return explain(err, false)
	}
	if newest < oldestProtocol || oldest > newestProtocol {
		return fmt.Errorf("it speaks protocol %d to %d, kube-ipvs %d to %d", oldest, newest, oldestProtocol, newestProtocol)
	}
	c.requests.protocol = min(newest, newestProtocol)
	return nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Traffic is what the connection has sent so far.
func (c *Conn) Traffic() netlink.Traffic { return c.socket.Traffic() }

// Sets is the table of the headers of all sets, ours or not, of any type.
func (c *Conn) Sets() kernel.Store[state.SetName, state.Set] { return sets{c} }

// Entries is the table of the entries of our sets. A set that has one of our names and a type that is none of
// ours shows no entries: its header has to be put right first.
func (c *Conn) Entries() kernel.Store[state.SetEntry, state.Entry] { return entries{c} }

// headers reads the header of one set, or of all with an empty name.
func (c *Conn) headers(ctx context.Context, name state.SetName) (map[state.SetName]state.Set, error) {
	c.requests.Reset()
	c.requests.listHeaders(name)
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
		return nil, explain(err, false)
	}
	return rows, nil
}

// members reads the entries of a set of a known type.
func (c *Conn) members(ctx context.Context, name state.SetName) (map[state.SetEntry]state.Entry, error) {
	rows := map[state.SetEntry]state.Entry{}
	if err := c.addMembers(ctx, name, rows); err != nil {
		return nil, err
	}
	return rows, nil
}

// addMembers is members into rows that those of other sets are in. Nothing is added by a dump that is
// interrupted or fails.
func (c *Conn) addMembers(ctx context.Context, name state.SetName, rows map[state.SetEntry]state.Entry) error {
	c.requests.Reset()
	c.requests.listEntries(name)
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
		return explain(err, false)
	}
	return nil
}

func (p part) decode(kind state.SetType, rows map[state.SetEntry]state.Entry) error {
	if !known(kind) {
		return fmt.Errorf("set %s has the unknown type %q", p.name, kind)
	}
	for _, a := range p.entries {
		k, v, err := parseEntry(p.name, kind, a)
		if err != nil {
			return err
		}
		rows[k] = v
	}
	return nil
}

// one sends what has been put into c.requests as a batch of one.
func (c *Conn) one(ctx context.Context) error {
	refused, err := c.socket.Do(ctx, &c.requests.Requests)
	if err != nil {
		return err
	}
	return errors.Join(refused...)
}

// revision is the newest revision of a set type that the kernel has.
func (c *Conn) revision(ctx context.Context, s state.Set) (uint8, error) {
	key := revisionKey{s.Type, s.Family}
	if r, ok := c.revisions[key]; ok {
		return r, nil
	}
	c.requests.Reset()
	c.requests.askType(s.Type, s.Family)
	var newest uint8
	err := c.socket.Ask(ctx, &c.requests.Requests, func(body []byte) (err error) {
		newest, err = parseRevision(body)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("asking the kernel for set type %s (module ip_set_%s): %w",
			s.Type, moduleOf(s.Type), explain(err, false))
	}
	c.revisions[key] = newest
	return newest, nil
}
