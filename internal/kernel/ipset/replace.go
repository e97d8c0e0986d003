// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// temporary returns the temporary name for a set: the same each time, so that a left-over is found and reused.
func temporary(name state.SetName) state.SetName {
	h := fnv.New32a()
	h.Write([]byte(name))
	return state.TemporarySet(fmt.Sprintf("%08x", h.Sum32()))
}

// replace exchanges the set name for one with the header want and the same entries, or leaves it as it was.
func (s sets) replace(ctx context.Context, name state.SetName, have, want state.Set) error {
	if plain(have.Type) != want.Type || have.Family != want.Family {
		return fmt.Errorf("there is a set of this name with type %s and family %v, which can't be replaced "+
			"by one of type %s and family %v while rules may refer to it: destroy it", have.Type, have.Family, want.Type, want.Family)
	}
	temp := temporary(name)
	if err := s.prepare(ctx, temp, want); err != nil {
		return fmt.Errorf("making its replacement %s: %w", temp, err)
	}
	err := s.fill(ctx, name, temp, want)
	if err == nil {
		s.c.fresh().swap(name, temp)
		err = s.c.ask(ctx, nil)
	}
	return errors.Join(err, s.discard(ctx, temp))
}

func (s sets) prepare(ctx context.Context, temp state.SetName, want state.Set) error {
	if err := s.discard(ctx, temp); err != nil {
		return err
	}
	revision, err := s.c.revision(ctx, want)
	if err != nil {
		return err
	}
	s.c.fresh().create(temp, want, revision)
	return s.c.ask(ctx, nil)
}

func (s sets) discard(ctx context.Context, temp state.SetName) error {
	s.c.fresh().destroy(temp)
	if err := s.c.ask(ctx, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("destroying temporary set %s: %w", temp, err)
	}
	return nil
}

// fill copies all entries of the set from to the set to, or fails: one that steers packets must not get lost.
func (s sets) fill(ctx context.Context, from, to state.SetName, want state.Set) error {
	rows := map[state.SetEntry]state.Entry{}
	if err := s.c.addMembers(ctx, from, rows); err != nil {
		return fmt.Errorf("reading its entries: %w", err)
	}
	var sent []state.SetEntry
	b := s.c.fresh()
	for k, v := range rows {
		k.Set = to
		if !want.Comment {
			v.Comment = ""
		}
		if !want.Marks {
			v.Mark = 0
		}
		b.add(unix.NLM_F_EXCL, k, v)
		sent = append(sent, k)
	}
	refused, failure := s.c.socket.Do(ctx, &b.Requests)
	for i, k := range sent {
		if err := netlink.Outcome(refused, failure, i); errors.Is(err, errHashFull) && want.MaxElem > 0 {
			return fmt.Errorf("its %d entries are more than the desired maxelem %d (%w)", len(rows), want.MaxElem, err)
		} else if err != nil {
			return fmt.Errorf("copying entry %s: %w", k.Member(), explain(err, want.Type == state.BitmapPort))
		}
	}
	return nil
}
