// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NoLocal counts the ports of a Service that a traffic policy Local leaves without endpoints here while
// others have some: for clients in the cluster, and for those outside.
func NoLocal(f Fragment, family state.Family) (internal, external int) {
	set, ours := named(family, setNoLocal), named(family, setClusterIP)
	inside, outside := map[string]struct{}{}, map[string]struct{}{} // ports, by comment
	for _, r := range f.Entries {
		if r.Key.Set != set {
			continue
		}
		k := r.Key
		k.Set = ours
		if hasEntry(f.Entries, k) {
			inside[r.Value.Comment] = struct{}{}
		} else {
			outside[r.Value.Comment] = struct{}{}
		}
	}
	return len(inside), len(outside)
}

// hasEntry looks in rows that are sorted by key.
func hasEntry(rows []diff.Row[state.SetEntry, state.Entry], k state.SetEntry) bool {
	_, found := slices.BinarySearchFunc(rows, k, func(r diff.Row[state.SetEntry, state.Entry], k state.SetEntry) int {
		return r.Key.Compare(k)
	})
	return found
}
