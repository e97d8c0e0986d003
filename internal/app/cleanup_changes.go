// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// note records the changes that a delta made, in the order of removal.
func (x *cleanup) note(d state.Delta, r kernel.Results) {
	noteTable(&x.done, "addresses", d.Addresses, r.Addresses)
	noteTable(&x.done, "real servers", d.RealServers, r.RealServers)
	noteTable(&x.done, "virtual servers", d.VirtualServers, r.VirtualServers)
	noteTable(&x.done, "devices", d.Links, r.Links)
	noteTable(&x.done, "jumps", d.Jumps, r.Jumps)
	noteTable(&x.done, "chains", d.Chains, r.Chains)
	noteTable(&x.done, "set entries", d.Entries, r.Entries)
	noteTable(&x.done, "sets", d.Sets, r.Sets)
}

func noteTable[K, V comparable](done *cli.Cleaned, table string, d diff.Delta[K, V], r kernel.Result[K]) {
	note := func(verb string, k K) {
		if _, failed := r.Failed[k]; !failed {
			done.Changes = append(done.Changes, cli.Change{Verb: verb, Table: table, Row: fmt.Sprint(k)})
		}
	}
	for _, row := range d.Remove {
		note("removed", row.Key)
	}
	for _, c := range d.Update {
		note("changed", c.Key)
	}
	for _, row := range d.Add {
		note("added", row.Key)
	}
}
