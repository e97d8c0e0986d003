// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type entries struct{ c *Conn }

type (
	entryDelta  = diff.Delta[state.SetEntry, state.Entry]
	entryResult = kernel.Result[state.SetEntry]
)

// List returns the elements of all our sets of known types. All that a set has of elements that are no entries of ours
// is one row, with no more in it than the set (strayRow).
func (s entries) List(ctx context.Context) (map[state.SetEntry]state.Entry, error) {
	headers, err := s.c.headers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sets of nftables: %w", err)
	}
	rows := make(map[state.SetEntry]state.Entry, s.c.listed)
	for _, n := range slices.Sorted(maps.Keys(headers)) {
		shape, known := shapeOf(n.Family(), headers[n].Type)
		if !known {
			continue
		}
		if err := s.c.addElements(ctx, n, shape, rows); err != nil {
			return nil, fmt.Errorf("listing entries of set %s: %w", n, err)
		}
	}
	s.c.listed = len(rows)
	return rows, nil
}

// dumpAttempts is how often a set is dumped until that counts.
const dumpAttempts = 5

// addElements reads the elements of a set into rows of several. A set that is gone has none.
//
// A dump that others change the set beside lacks elements, and so does one of a hash table that is just growing. The
// kernel marks neither. So a dump counts if it has as many as there should be, or as many as the one before it. In the
// end it counts anyway: what it lists is there. What it lacks is added again, found to be there, and listed once more.
func (c *Conn) addElements(ctx context.Context, n state.SetName, s shape, rows map[state.SetEntry]state.Entry) error {
	others, before := len(rows), -1
	for range dumpAttempts {
		found, err := c.addDump(ctx, n, s, rows, others)
		if err != nil {
			return err
		}
		expected, known := c.counts[n]
		c.counts[n] = found
		if known && found >= expected || found == before {
			break
		}
		before = found
	}
	return nil
}

// addDump is one attempt of addElements. It returns how many elements it found.
func (c *Conn) addDump(ctx context.Context, n state.SetName, s shape, rows map[state.SetEntry]state.Entry, others int) (int, error) {
	strays := 0
	reset := func() {
		strays = 0
		if len(rows) > others {
			maps.DeleteFunc(rows, func(e state.SetEntry, _ state.Entry) bool { return e.Set == n })
		}
	}
	err := c.dumpElements(ctx, n, func() func(netlink.Attributes) error {
		reset()
		return func(a netlink.Attributes) error {
			e, v, ours := s.parseElement(n, a)
			if !ours {
				strays++
				e, v = strayRow(n, a)
			}
			rows[e] = v
			return nil
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		reset()
		err = nil
	}
	return len(rows) - others + max(0, strays-1), err
}

// dumpElements passes the attributes of each element of a set to what start returns.
func (c *Conn) dumpElements(ctx context.Context, n state.SetName, start func() func(netlink.Attributes) error) error {
	c.requests.Reset()
	c.beginElements(unix.NFT_MSG_GETSETELEM, 0, n)
	err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
		take := start()
		return func(body []byte) error { return eachElement(body, take) }
	})
	if errors.Is(err, netlink.ErrInterrupted) {
		return nil
	}
	return err
}

func eachElement(body []byte, take func(netlink.Attributes) error) error {
	a, err := netlink.ParseBody(body, header)
	if err != nil {
		return err
	}
	return netlink.EachAttribute(a.Get(unix.NFTA_SET_ELEM_LIST_ELEMENTS).Value, func(element netlink.Attribute) {
		inside, bad := element.Nested()
		if bad == nil {
			bad = take(inside)
		}
		err = errors.Join(err, bad)
	})
}

// Apply makes the changes of d, thousands of rows in one transaction. What a transaction changes, packets see at once.
func (s entries) Apply(ctx context.Context, d entryDelta) entryResult {
	x := writing{c: s.c}
	if err := x.knowHeaders(ctx, d); err != nil {
		for w := range kernel.EachWork(d) {
			x.fail(w, err)
		}
		return x.result
	}
	for work := range chunksOf(d) {
		if work = x.fit(ctx, work); len(work) > 0 {
			x.write(ctx, work)
		}
	}
	return x.result
}

type entryWork = kernel.Work[state.SetEntry, state.Entry]

// chunksOf yields the work of one transaction after the other, in memory that the next one takes over.
func chunksOf(d entryDelta) iter.Seq[[]entryWork] {
	return func(yield func([]entryWork) bool) {
		chunk := make([]entryWork, 0, min(d.Len(), rowsOfTransaction))
		for w := range kernel.EachWork(d) {
			if chunk = append(chunk, w); len(chunk) == cap(chunk) {
				if !yield(chunk) {
					return
				}
				chunk = chunk[:0]
			}
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

// there asks the kernel which rows it has. One of a set of intervals is asked for by a list of the whole set: the
// kernel would answer with any interval that holds its first address.
func (x *writing) there(ctx context.Context, work []entryWork) ([]bool, error) {
	found := make([]bool, len(work))
	listed := map[state.SetEntry]state.Entry{}
	var asked []int
	read := map[state.SetName]bool{}
	for i, w := range work {
		n := w.Key.Set
		if s := x.shapeOf(n); !s.net && w.Key != stray(n) {
			asked = append(asked, i)
			continue
		}
		if !read[n] {
			read[n] = true
			if err := x.c.addElements(ctx, n, *x.shapeOf(n), listed); err != nil {
				return nil, err
			}
		}
		_, found[i] = listed[w.Key]
	}
	refused, failure := x.c.socket.Stream(ctx, &x.c.requests, len(asked), func(i int) {
		w := work[asked[i]]
		x.c.beginElements(unix.NFT_MSG_GETSETELEM, 0, w.Key.Set)
		x.c.requests.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			x.c.requests.Nest(unix.NFTA_LIST_ELEM, func() { x.shapeOf(w.Key.Set).appendKey(&x.c.requests, w.Key) })
		})
	})
	for i, at := range asked {
		err := netlink.Outcome(refused, failure, i)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		found[at] = err == nil
	}
	return found, nil
}

func (c *Conn) beginElements(kind, flags uint16, n state.SetName) {
	c.begin(kind, flags, n.Family())
	c.requests.String(unix.NFTA_SET_ELEM_LIST_TABLE, c.table)
	c.requests.String(unix.NFTA_SET_ELEM_LIST_SET, string(n.Bare()))
}

// unknownSet reports whether a delta has an entry of a set whose header is not known.
func unknownSet(known map[state.SetName]state.Set, d entryDelta) bool {
	var last state.SetName
	for e := range d.Keys() {
		if e.Set == last {
			continue
		}
		last = e.Set
		if _, there := known[last]; !there {
			return true
		}
	}
	return false
}

// stray is the key of the row of all elements of a set that are no entries of ours: of all addresses, of a range that
// is no network, or of a key that our rules never look for.
func stray(n state.SetName) state.SetEntry { return state.SetEntry{Set: n} }

func strayRow(n state.SetName, a netlink.Attributes) (state.SetEntry, state.Entry) {
	return stray(n), state.Entry{Comment: fmt.Sprintf("no entry of ours: %x to %x", valueIn(a.Get(unix.NFTA_SET_ELEM_KEY)), valueIn(a.Get(elementKeyEnd)))}
}

// strays returns what names the stray elements of a set in requests, some hundreds at most.
func (c *Conn) strays(ctx context.Context, n state.SetName, s shape) ([]netlink.Attributes, error) {
	var list []netlink.Attributes
	err := c.dumpElements(ctx, n, func() func(netlink.Attributes) error {
		list = nil
		return func(a netlink.Attributes) error {
			if _, _, ours := s.parseElement(n, a); !ours && len(list) < rowsOfRequest {
				list = append(list, nameOf(a))
			}
			return nil
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// nameOf returns the attributes that name an element.
func nameOf(a netlink.Attributes) netlink.Attributes {
	var name netlink.Attributes
	for _, kind := range []uint16{unix.NFTA_SET_ELEM_KEY, elementKeyEnd, unix.NFTA_SET_ELEM_FLAGS} {
		if a.Has(kind) {
			name = append(name, netlink.Attribute{Type: kind, Value: slices.Clone(a.Get(kind).Value)})
		}
	}
	return name
}
