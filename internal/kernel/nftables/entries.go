// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	entryRow    = diff.Row[state.SetEntry, state.Entry]
	entryResult = kernel.Result[state.SetEntry]
)

// A transaction is one sendmsg, and a list of elements one attribute of it, of 65,535 bytes at most.
const (
	rowsOfTransaction = 4096
	rowsOfRequest     = 256
)

// List returns the elements of all our sets of known types.
func (s entries) List(ctx context.Context) (map[state.SetEntry]state.Entry, error) {
	headers, err := s.c.headers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sets of nftables: %w", err)
	}
	rows := make(map[state.SetEntry]state.Entry, s.c.listed)
	for _, n := range sortedKeys(headers) {
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

// addElements reads the elements of a set into rows of several. A set that is gone has none.
//
// The kernel marks a dump as interrupted by any change of nftables, of any table. Changes come all the time, so in the
// end such a dump counts: what it lists is there. It may lack other elements. That removes nothing: they are added
// again, found to be there, and listed once more.
func (c *Conn) addElements(ctx context.Context, n state.SetName, s shape, rows map[state.SetEntry]state.Entry) error {
	c.requests.Reset()
	c.beginElements(unix.NFT_MSG_GETSETELEM, 0, n)
	others := len(rows)
	reset := func() {
		if len(rows) > others {
			maps.DeleteFunc(rows, func(e state.SetEntry, _ state.Entry) bool { return e.Set == n })
		}
	}
	err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
		reset()
		return func(body []byte) error { return s.parseList(n, body, rows) }
	})
	switch {
	case errors.Is(err, netlink.ErrInterrupted):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		reset()
		return nil
	}
	return err
}

func (s shape) parseList(n state.SetName, body []byte, rows map[state.SetEntry]state.Entry) error {
	a, err := netlink.ParseBody(body, header)
	if err != nil {
		return err
	}
	list, err := a.Get(unix.NFTA_SET_ELEM_LIST_ELEMENTS).Nested()
	for _, element := range list {
		inside, bad := element.Nested()
		if bad != nil {
			return bad
		}
		e, v, bad := s.parseElement(n, inside)
		if bad != nil {
			return bad
		}
		rows[e] = v
	}
	return err
}

// Apply makes the changes of d, thousands of rows in one transaction. What a transaction changes, packets see at once.
func (s entries) Apply(ctx context.Context, d diff.Delta[state.SetEntry, state.Entry]) entryResult {
	x := writing{c: s.c}
	work := x.workOf(d)
	if err := x.knowHeaders(ctx, work); err != nil {
		for _, w := range work {
			x.fail(w, err)
		}
		return x.result
	}
	for chunk := range slices.Chunk(x.fit(work), rowsOfTransaction) {
		x.write(ctx, chunk)
	}
	return x.result
}

// knowHeaders makes the headers of all sets known. They change with the version of kube-ipvs alone, so they are read
// again only if a set is not known, or something was refused.
func (x *writing) knowHeaders(ctx context.Context, work []entryWork) (err error) {
	unknown := func(w entryWork) bool { _, known := x.c.known[w.key.Set]; return !known }
	if slices.ContainsFunc(work, unknown) {
		x.c.known, err = x.c.headers(ctx)
	}
	x.headers = x.c.known
	return err
}

// entryWork is what has to happen to one element.
type entryWork struct {
	key      state.SetEntry
	value    state.Entry
	remove   bool // it has to be gone
	expected bool // it should be there
}

type writing struct {
	c       *Conn
	headers map[state.SetName]state.Set
	result  entryResult
}

func (x *writing) workOf(d diff.Delta[state.SetEntry, state.Entry]) []entryWork {
	work := make([]entryWork, 0, d.Len())
	for _, r := range d.Remove {
		work = append(work, entryWork{r.Key, r.Value, true, true})
	}
	for _, c := range d.Update {
		work = append(work, entryWork{c.Key, c.New, false, true})
	}
	for _, r := range d.Add {
		work = append(work, entryWork{r.Key, r.Value, false, false})
	}
	return work
}

// fit returns the rows that the sets can hold. One that is to be removed from a set that is not there is gone.
func (x *writing) fit(work []entryWork) []entryWork {
	return slices.DeleteFunc(work, func(w entryWork) bool {
		s, known := shapeOf(w.key.Set.Family(), x.headers[w.key.Set].Type)
		_, there := x.headers[w.key.Set]
		switch err := s.check(w.key, w.value); {
		case !there && w.remove:
			x.result.Drift++
		case !there:
			x.fail(w, fmt.Errorf("the set does not exist (%w)", fs.ErrNotExist))
		case !known:
			x.fail(w, errors.New("the set is of a type that is not ours"))
		case err != nil:
			x.fail(w, err)
		default:
			return false
		}
		return true
	})
}

func (x *writing) fail(w entryWork, err error) {
	verb := "adding"
	if w.remove {
		verb = "removing"
	} else if w.expected {
		verb = "changing"
	}
	x.result.Fail(w.key, fmt.Errorf("%s set entry %v: %w", verb, w.key, err))
}

// write writes rows in one transaction. If that is refused, it asks which rows are there and writes what is right then,
// and if that is refused too, each half by itself.
func (x *writing) write(ctx context.Context, work []entryWork) {
	if x.send(ctx, work) == nil {
		return
	}
	var err error
	if x.c.known, err = x.c.headers(ctx); err == nil {
		x.headers = x.c.known
		work = x.fit(work)
	}
	there, err := x.there(ctx, work)
	if err == nil {
		work = x.corrected(work, there)
		if err = x.send(ctx, work); err == nil {
			return
		}
	}
	x.halve(ctx, work, err)
}

// corrected counts the rows that were not as expected, and returns the work for what is there.
func (x *writing) corrected(work []entryWork, there []bool) []entryWork {
	var left []entryWork
	for i, w := range work {
		if w.expected != there[i] {
			x.result.Drift++
		}
		w.expected = there[i]
		if !w.remove || w.expected {
			left = append(left, w)
		}
	}
	return left
}

func (x *writing) halve(ctx context.Context, work []entryWork, err error) {
	if len(work) == 1 || ctx.Err() != nil {
		for _, w := range work {
			x.fail(w, err)
		}
		return
	}
	for _, half := range [][]entryWork{work[:len(work)/2], work[len(work)/2:]} {
		if len(half) == 0 {
			continue
		}
		if err := x.send(ctx, half); err != nil {
			x.halve(ctx, half, err)
		}
	}
}

// send makes one transaction: first it removes what is to go or to change, then it adds.
func (x *writing) send(ctx context.Context, work []entryWork) error {
	return x.c.transact(ctx, func() {
		x.lists(unix.NFT_MSG_DELSETELEM, 0, work, func(w entryWork) bool { return w.remove || w.expected })
		x.lists(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, work, func(w entryWork) bool { return !w.remove })
	})
}

// lists appends requests with the matching rows, those of one set together.
func (x *writing) lists(kind, flags uint16, work []entryWork, match func(entryWork) bool) {
	var key [80]byte
	for len(work) > 0 {
		n := work[0].key.Set
		run := 1
		for run < len(work) && work[run].key.Set == n {
			run++
		}
		s, _ := shapeOf(n.Family(), x.headers[n].Type)
		for part := range slices.Chunk(work[:run], rowsOfRequest) {
			if !slices.ContainsFunc(part, match) {
				continue
			}
			x.c.beginElements(kind, flags, n)
			x.c.requests.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, w := range part {
					if match(w) {
						s.appendWork(&x.c.requests, kind, w, key[:])
					}
				}
			})
		}
		work = work[run:]
	}
}

func (s shape) appendWork(b *netlink.Requests, kind uint16, w entryWork, key []byte) {
	if kind == unix.NFT_MSG_NEWSETELEM {
		s.appendElement(b, w.key, w.value, key)
		return
	}
	b.Nest(unix.NFTA_LIST_ELEM, func() { s.appendKey(b, w.key, key) })
}

func (c *Conn) beginElements(kind, flags uint16, n state.SetName) {
	c.begin(kind, flags, n.Family())
	c.requests.String(unix.NFTA_SET_ELEM_LIST_TABLE, c.table)
	c.requests.String(unix.NFTA_SET_ELEM_LIST_SET, string(n.Bare()))
}

// there asks the kernel which rows it has. One of a set of intervals is asked for by a list of the whole set: the
// kernel would answer with any interval that holds its first address.
func (x *writing) there(ctx context.Context, work []entryWork) ([]bool, error) {
	found := make([]bool, len(work))
	intervals := map[state.SetEntry]state.Entry{}
	var asked []int
	read := map[state.SetName]bool{}
	for i, w := range work {
		s, _ := shapeOf(w.key.Set.Family(), x.headers[w.key.Set].Type)
		if !s.net {
			asked = append(asked, i)
			continue
		}
		if !read[w.key.Set] {
			read[w.key.Set] = true
			if err := x.c.addElements(ctx, w.key.Set, s, intervals); err != nil {
				return nil, err
			}
		}
		_, found[i] = intervals[w.key]
	}
	var key [80]byte
	refused, failure := x.c.socket.Stream(ctx, &x.c.requests, len(asked), func(i int) {
		w := work[asked[i]]
		s, _ := shapeOf(w.key.Set.Family(), x.headers[w.key.Set].Type)
		x.c.beginElements(unix.NFT_MSG_GETSETELEM, 0, w.key.Set)
		x.c.requests.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			x.c.requests.Nest(unix.NFTA_LIST_ELEM, func() { s.appendKey(&x.c.requests, w.key, key[:]) })
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
