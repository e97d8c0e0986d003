// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type sets struct{ c *Conn }

// List returns the headers of all sets, temporary ones among them.
func (s sets) List(ctx context.Context) (map[state.SetName]state.Set, error) {
	rows, err := s.c.headers(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	return rows, nil
}

// Apply makes the changes of d. An update replaces the set and keeps its entries, as the package comment
// tells.
func (s sets) Apply(ctx context.Context, d diff.Delta[state.SetName, state.Set]) kernel.Result[state.SetName] {
	var r kernel.Result[state.SetName]
	s.remove(ctx, d.Remove, &r)
	updates := make([]diff.Row[state.SetName, state.Set], len(d.Update))
	for i, c := range d.Update {
		updates[i] = diff.Row[state.SetName, state.Set]{Key: c.Key, Value: c.New}
	}
	s.set(ctx, updates, true, &r)
	s.set(ctx, d.Add, false, &r)
	return r
}

func (s sets) remove(ctx context.Context, rows []diff.Row[state.SetName, state.Set], r *kernel.Result[state.SetName]) {
	var sent []state.SetName
	s.c.requests.Reset()
	for _, row := range rows {
		if err := checkName(row.Key); err != nil {
			r.Fail(row.Key, fmt.Errorf("destroying set: %w", err))
			continue
		}
		s.c.requests.destroy(row.Key)
		sent = append(sent, row.Key)
	}
	refused, err := s.c.socket.Do(ctx, &s.c.requests.Requests)
	for i, name := range sent {
		switch refusal := outcome(refused, err, i); {
		case refusal == nil:
		case errors.Is(refusal, fs.ErrNotExist):
			r.Drift++
		default:
			r.Fail(name, fmt.Errorf("destroying set %s: %w", name, explain(refusal, false)))
		}
	}
}

// outcome is what became of the request i of a batch.
func outcome(refused []error, failure error, i int) error {
	if i < len(refused) {
		return refused[i]
	}
	return failure
}

// set creates the sets of rows and brings those that are there to their header. expected says whether the
// caller thought them to be there.
func (s sets) set(ctx context.Context, rows []diff.Row[state.SetName, state.Set], expected bool, r *kernel.Result[state.SetName]) {
	sent, revisions := s.ready(ctx, rows, r)
	s.c.requests.Reset()
	for i, row := range sent {
		s.c.requests.create(row.Key, row.Value, revisions[i])
	}
	refused, failure := s.c.socket.Do(ctx, &s.c.requests.Requests)
	for i, row := range sent {
		err := outcome(refused, failure, i)
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

// ready is the rows that can be sent, and the revision of each one's type.
func (s sets) ready(ctx context.Context, rows []diff.Row[state.SetName, state.Set], r *kernel.Result[state.SetName]) ([]diff.Row[state.SetName, state.Set], []uint8) {
	var sent []diff.Row[state.SetName, state.Set]
	var revisions []uint8
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

// conform brings a set that is there to its header.
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

func moduleOf(t state.SetType) string {
	return strings.NewReplacer(":", "_", ",", "").Replace(string(t))
}
