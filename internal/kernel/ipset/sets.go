// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type sets struct{ c *Conn }

type (
	setRow    = diff.Row[state.SetName, state.Set]
	setResult = kernel.Result[state.SetName]
)

// List returns the headers of all sets, temporary ones among them.
func (s sets) List(ctx context.Context) (map[state.SetName]state.Set, error) {
	return s.c.headers(ctx, "")
}

// Apply makes the changes of d. An update replaces the set and keeps its entries, see the package comment.
func (s sets) Apply(ctx context.Context, d diff.Delta[state.SetName, state.Set]) setResult {
	var r setResult
	s.remove(ctx, d.Remove, &r)
	s.set(ctx, after(d.Update), true, &r)
	s.set(ctx, d.Add, false, &r)
	return r
}

func after[K, V comparable](changes []diff.Change[K, V]) []diff.Row[K, V] {
	rows := make([]diff.Row[K, V], len(changes))
	for i, c := range changes {
		rows[i] = diff.Row[K, V]{Key: c.Key, Value: c.New}
	}
	return rows
}

func (s sets) remove(ctx context.Context, rows []setRow, r *setResult) {
	var sent []state.SetName
	b := s.c.fresh()
	for _, row := range rows {
		if err := checkName(row.Key); err != nil {
			r.Fail(row.Key, fmt.Errorf("destroying set: %w", err))
			continue
		}
		b.destroy(row.Key)
		sent = append(sent, row.Key)
	}
	refused, failure := s.c.socket.Do(ctx, &b.Requests)
	for i, name := range sent {
		err := netlink.Outcome(refused, failure, i)
		if errors.Is(err, fs.ErrNotExist) {
			r.Drift++
		} else if err != nil {
			r.Fail(name, fmt.Errorf("destroying set %s: %w", name, explain(err, false)))
		}
	}
}

// set creates sets, and brings those that are there to their header; expected: they should be there.
func (s sets) set(ctx context.Context, rows []setRow, expected bool, r *setResult) {
	sent, revisions := s.sendable(ctx, rows, r)
	b := s.c.fresh()
	for i, row := range sent {
		b.create(row.Key, row.Value, revisions[i])
	}
	refused, failure := s.c.socket.Do(ctx, &b.Requests)
	for i, row := range sent {
		err := netlink.Outcome(refused, failure, i)
		there := errors.Is(err, fs.ErrExist)
		if there {
			err = s.conform(ctx, row.Key, row.Value)
		}
		if err != nil {
			r.Fail(row.Key, fmt.Errorf("making set %s (%s): %w", row.Key, row.Value.Type, explain(err, false)))
		} else if there != expected {
			r.Drift++
		}
	}
}

// sendable returns the rows that can be sent, and the revision of each one's type. The others fail.
func (s sets) sendable(ctx context.Context, rows []setRow, r *setResult) (sent []setRow, revisions []uint8) {
	for _, row := range rows {
		err := checkSet(row.Key, row.Value)
		var revision uint8
		if err == nil {
			revision, err = s.c.revision(ctx, row.Value)
		}
		if err != nil {
			r.Fail(row.Key, fmt.Errorf("making set %s: %w", row.Key, err))
			continue
		}
		sent, revisions = append(sent, row), append(revisions, revision)
	}
	return sent, revisions
}

func (s sets) conform(ctx context.Context, name state.SetName, want state.Set) error {
	rows, err := s.c.headers(ctx, name)
	if err != nil {
		return err
	}
	if have := rows[name]; have != want {
		return s.replace(ctx, name, have, want)
	}
	return nil
}
