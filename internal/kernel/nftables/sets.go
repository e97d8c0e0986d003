// SPDX-License-Identifier: Apache-2.0

package nftables

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

type sets struct{ c *Conn }

type (
	setRow    = diff.Row[state.SetName, state.Set]
	setDelta  = diff.Delta[state.SetName, state.Set]
	setResult = kernel.Result[state.SetName]
)

// List returns the headers of all named sets in our tables.
func (s sets) List(ctx context.Context) (map[state.SetName]state.Set, error) {
	rows, err := s.c.headers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sets of nftables: %w", err)
	}
	return rows, nil
}

func (c *Conn) headers(ctx context.Context) (map[state.SetName]state.Set, error) {
	var rows map[state.SetName]state.Set
	err := c.dump(ctx, unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, func() func(state.Family, netlink.Attributes) error {
		rows = map[state.SetName]state.Set{}
		return func(f state.Family, a netlink.Attributes) error {
			if a.Get(unix.NFTA_SET_FLAGS).BigUint32()&unix.NFT_SET_ANONYMOUS == 0 {
				name, header := parseSet(f, a)
				rows[name] = header
				if a.Has(setCount) {
					c.counts[name] = int(a.Get(setCount).BigUint32())
				}
			}
			return nil
		}
	})
	return rows, err
}

// Apply makes the changes of d: sets come together in one transaction, and go in another.
func (s sets) Apply(ctx context.Context, d setDelta) setResult {
	var r setResult
	s.c.known, s.c.seen = nil, nil
	s.remove(ctx, d.Remove, &r)
	s.set(ctx, d, &r)
	return r
}

func (s sets) remove(ctx context.Context, rows []setRow, r *setResult) {
	if len(rows) == 0 {
		return
	}
	have, err := s.c.headers(ctx)
	if err != nil {
		failRows(rows, "removing set", err, r)
		return
	}
	there := slices.DeleteFunc(slices.Clone(rows), func(row setRow) bool { _, is := have[row.Key]; return !is })
	r.Drift += len(rows) - len(there)
	err = s.c.transact(ctx, func() {
		for _, row := range there {
			s.c.deleteSet(row.Key)
		}
	})
	if err == nil {
		s.c.removeEmptyTables(ctx)
		return
	}
	for _, row := range there {
		err := s.c.transact(ctx, func() { s.c.deleteSet(row.Key) })
		if errors.Is(err, fs.ErrNotExist) {
			r.Drift++
		} else if err != nil {
			r.Fail(row.Key, fmt.Errorf("removing set %s: %w", row.Key, inUse(err)))
		}
	}
}

func inUse(err error) error {
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("a rule looks into it (%w)", err)
	}
	return err
}

func failRows(rows []setRow, verb string, err error, r *setResult) {
	for _, row := range rows {
		r.Fail(row.Key, fmt.Errorf("%s %s: %w", verb, row.Key, err))
	}
}

// set makes sets, and replaces those of another header.
func (s sets) set(ctx context.Context, d setDelta, r *setResult) {
	rows, expected := d.Add, map[state.SetName]bool{}
	for _, c := range d.Update {
		rows = append(slices.Clip(rows), setRow{Key: c.Key, Value: c.New})
		expected[c.Key] = true
	}
	rows = s.fit(rows, r)
	if len(rows) == 0 {
		return
	}
	have, err := s.c.headers(ctx)
	if err != nil {
		failRows(rows, "making set", err, r)
		return
	}
	var made []setRow
	for _, row := range rows {
		h, there := have[row.Key]
		if there != expected[row.Key] {
			r.Drift++
		}
		switch {
		case !there:
			made = append(made, row)
		case h != row.Value:
			if err := s.c.replaceSet(ctx, row.Key, row.Value, have); err != nil {
				r.Fail(row.Key, fmt.Errorf("replacing set %s: %w", row.Key, err))
			}
		}
	}
	if s.make(ctx, made) == nil {
		return
	}
	for _, row := range made {
		if err := s.make(ctx, []setRow{row}); err != nil {
			r.Fail(row.Key, fmt.Errorf("making set %s (%s): %w", row.Key, row.Value.Type, err))
		}
	}
}

// fit returns the rows that nftables can express. The others fail.
func (s sets) fit(rows []setRow, r *setResult) []setRow {
	return slices.DeleteFunc(slices.Clone(rows), func(row setRow) bool {
		_, known := shapeOf(row.Key.Family(), row.Value.Type)
		switch {
		case !known:
			r.Fail(row.Key, fmt.Errorf("making set %s: nftables has no sets of type %q of ours", row.Key, row.Value.Type))
		case row.Value != headerOf(row.Key.Family(), row.Value.Type):
			r.Fail(row.Key, fmt.Errorf("making set %s: a set of nftables has comments, no marks, no limit, and the family of its name", row.Key))
		default:
			return false
		}
		return true
	})
}

func (s sets) make(ctx context.Context, rows []setRow) error {
	return s.c.transact(ctx, func() {
		for _, f := range s.c.families {
			if slices.ContainsFunc(rows, func(r setRow) bool { return r.Key.Family() == f }) {
				s.c.makeTable(f)
			}
		}
		for _, row := range rows {
			s.c.makeSet(row.Key, row.Value)
		}
	})
}

// removeEmptyTables removes our tables in which nothing is left. The kernel refuses to remove a table with chains.
func (c *Conn) removeEmptyTables(ctx context.Context) {
	seen, err := c.read(ctx)
	if err != nil {
		return // an empty table does nothing
	}
	for _, f := range c.families {
		if !seen.has(f) {
			_ = c.transact(ctx, func() { c.deleteTable(f) }) // it is gone, or another program uses it
		}
	}
}
