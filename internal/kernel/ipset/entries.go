// SPDX-License-Identifier: Apache-2.0

package ipset

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

type entries struct{ c *Conn }

type (
	entryRow    = diff.Row[state.SetEntry, state.Entry]
	entryResult = kernel.Result[state.SetEntry]
)

// List returns the entries of our sets.
func (s entries) List(ctx context.Context) (map[state.SetEntry]state.Entry, error) {
	headers, err := s.c.headers(ctx, "")
	if err != nil {
		return nil, err
	}
	rows := make(map[state.SetEntry]state.Entry, s.c.listed)
	for name, header := range headers {
		if !s.c.ours(name) || !known(plain(header.Type)) {
			continue
		}
		err := s.c.addMembers(ctx, name, rows)
		if errors.Is(err, fs.ErrNotExist) {
			continue // destroyed since, and its entries with it
		}
		if err != nil {
			return nil, fmt.Errorf("listing entries of set %s: %w", name, err)
		}
	}
	s.c.listed = len(rows)
	return rows, nil
}

// Apply makes the changes of d, hundreds in one system call.
func (s entries) Apply(ctx context.Context, d diff.Delta[state.SetEntry, state.Entry]) entryResult {
	var r entryResult
	s.remove(ctx, d.Remove, &r)
	s.set(ctx, after(d.Update), true, &r)
	s.set(ctx, d.Add, false, &r)
	return r
}

// remove takes entries out. One whose set is gone is gone as well.
func (s entries) remove(ctx context.Context, rows []entryRow, r *entryResult) {
	absent := func(err error) bool { return errors.Is(err, errExist) || errors.Is(err, fs.ErrNotExist) }
	gone := s.send(ctx, rows, request{
		verb:   "removing",
		encode: func(row entryRow) { s.c.requests.remove(row.Key) },
		settle: absent,
	}, r)
	r.Drift += len(gone)
}

// set adds entries, and gives those that are there their value; expected says whether they should be there.
//
// Only for a request with NLM_F_EXCL does the kernel report that the entry is there, and keeps its old value then; one
// without sets the value. So an entry that is there takes two requests, which is rare.
func (s entries) set(ctx context.Context, rows []entryRow, expected bool, r *entryResult) {
	failed := len(r.Failed)
	there := s.send(ctx, rows, request{
		verb:   "adding",
		encode: func(row entryRow) { s.c.requests.add(unix.NLM_F_EXCL, row.Key, row.Value) },
		settle: func(err error) bool { return errors.Is(err, errExist) },
	}, r)
	if expected {
		r.Drift += len(rows) - len(there) - (len(r.Failed) - failed)
	} else {
		r.Drift += len(there)
	}
	s.send(ctx, there, request{
		verb:   "changing",
		encode: func(row entryRow) { s.c.requests.add(0, row.Key, row.Value) },
		settle: func(error) bool { return false },
	}, r)
}

type request struct {
	verb   string
	encode func(entryRow)
	settle func(refusal error) bool // is no failure
}

// send makes the requests for rows and returns those whose refusal is settled. Other refused rows fail.
func (s entries) send(ctx context.Context, rows []entryRow, q request, r *entryResult) (settled []entryRow) {
	sent := sendable(rows, q.verb, r)
	refused, failure := s.c.socket.Stream(ctx, &s.c.requests.Requests, len(sent), func(i int) { q.encode(sent[i]) })
	limits := map[state.SetName]uint32{}
	for i, row := range sent {
		err := netlink.Outcome(refused, failure, i)
		if err != nil && q.settle(err) {
			settled = append(settled, row)
		} else if err != nil {
			r.Fail(row.Key, fmt.Errorf("%s set entry %v: %w", q.verb, row.Key, s.reason(ctx, row.Key, err, limits)))
		}
	}
	return settled
}

// sendable returns the rows that the kernel would keep as they are. The others fail.
func sendable(rows []entryRow, verb string, r *entryResult) []entryRow {
	altered := func(row entryRow) bool { return checkEntry(row.Key, row.Value) != nil }
	if !slices.ContainsFunc(rows, altered) {
		return rows
	}
	var sent []entryRow
	for _, row := range rows {
		if err := checkEntry(row.Key, row.Value); err != nil {
			r.Fail(row.Key, fmt.Errorf("%s set entry %v: %w", verb, row.Key, err))
			continue
		}
		sent = append(sent, row)
	}
	return sent
}

func (s entries) reason(ctx context.Context, k state.SetEntry, refusal error, limits map[state.SetName]uint32) error {
	bitmap := !k.Address.IsValid()
	if bitmap || !errors.Is(refusal, errHashFull) {
		return explain(refusal, bitmap)
	}
	if _, ok := limits[k.Set]; !ok {
		headers, err := s.c.headers(ctx, k.Set)
		if err != nil {
			return errors.Join(explain(refusal, bitmap), err)
		}
		limits[k.Set] = headers[k.Set].MaxElem
	}
	return fmt.Errorf("set %s is full: it takes at most %d entries (maxelem) (%w)", k.Set, limits[k.Set], refusal)
}
