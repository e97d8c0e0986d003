// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// To remove an element from a set of networks, the kernel goes through all of them (nft_pipapo_remove). 8,000 of 8,000
// took it two minutes in user-mode Linux, in which no other program could change nftables. There a set is made anew with
// 20,000 elements in one and a half seconds, and removed with all its elements at once.

// crowd is how many elements are removed from a set of networks one by one.
const crowd = 64

// remakeSets makes sets anew from which so many elements go, and returns what is left to do.
func (x *writing) remakeSets(ctx context.Context, d entryDelta) entryDelta {
	for _, n := range x.crowded(d) {
		of, rest := kernel.Split(d, func(e state.SetEntry, _ state.Entry) bool { return e.Set == n })
		if x.remakeSet(ctx, n, of) == nil { // else the rows show one by one what is wrong
			d = rest
		}
	}
	return d
}

// crowded returns the sets of networks from which more elements go than a crowd. One that changes goes, and comes back.
func (x *writing) crowded(d entryDelta) []state.SetName {
	leaving := map[state.SetName]int{}
	note := func(n state.SetName) {
		if s := x.shapeOf(n); s != nil && s.net {
			leaving[n]++
		}
	}
	for _, r := range d.Remove {
		note(r.Key.Set)
	}
	for _, c := range d.Update {
		note(c.Key.Set)
	}
	return slices.DeleteFunc(sortedKeys(leaving), func(n state.SetName) bool { return leaving[n] <= crowd })
}

func (x *writing) remakeSet(ctx context.Context, n state.SetName, d entryDelta) error {
	rows := map[state.SetEntry]state.Entry{}
	if err := x.c.addElements(ctx, n, *x.shapeOf(n), rows); err != nil {
		return err
	}
	drift := 0
	for _, w := range x.fit(ctx, slices.Collect(workOf(d))) {
		if _, there := rows[w.key]; there != w.expected {
			drift++
		}
		if rows[w.key] = w.value; w.remove {
			delete(rows, w.key)
		}
	}
	if err := x.c.remakeSet(ctx, n, x.headers[n], rows, x.headers); err != nil {
		return err
	}
	x.result.Drift += drift
	return nil
}
