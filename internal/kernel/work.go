// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"iter"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

// Work is what has to happen to one row of a delta.
type Work[K, V comparable] struct {
	Key      K
	Value    V    // that it has, if it is to go, or gets
	Remove   bool // it has to be gone
	Expected bool // it should be there
}

// EachWork yields the work of a delta in the order in which a Store makes it: what goes, what changes, what comes.
func EachWork[K, V comparable](d diff.Delta[K, V]) iter.Seq[Work[K, V]] {
	return func(yield func(Work[K, V]) bool) {
		for _, r := range d.Remove {
			if !yield(Work[K, V]{r.Key, r.Value, true, true}) {
				return
			}
		}
		for _, c := range d.Update {
			if !yield(Work[K, V]{c.Key, c.New, false, true}) {
				return
			}
		}
		for _, r := range d.Add {
			if !yield(Work[K, V]{r.Key, r.Value, false, false}) {
				return
			}
		}
	}
}
